//! Metrics of texts and probabilities beside the values that sacrebleu, rouge-score, scikit-learn and numpy gave for the same 568 pairs of texts and the
//! same numbers (`xtask/parity/metrics.py` made them), and beside what other settings of those packages give.

use std::collections::BTreeMap;
use std::path::Path;

use codex_core::files;
use codex_eval::text::bleu::BleuCounts;
use codex_eval::text::chrf::Chrf;
use codex_eval::text::rouge::{Rouge, RougeKind};
use codex_eval::text::{
    Choice, ChoiceRecord, Confusion, DEFAULT_BINS, DEFAULT_RESAMPLES, Normalisation, TEXT_METRICS, TextMetric, TextRecord, TextScores,
    bootstrap_mean, brier, brier_binary, calibration, choice_accuracy,
};
use serde::Deserialize;

const TOLERANCE: f64 = 1e-6;
/// How far the value of a wrong setting is at least from the right one.
const TEETH: f64 = 1e-3;

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    pairs: Vec<Vec<usize>>,
    metrics: BTreeMap<String, Scores>,
    rouge: BTreeMap<String, Sides>,
    wrong: BTreeMap<String, BTreeMap<String, f64>>,
    numbers: Numbers,
    inputs: Inputs,
}

#[derive(Deserialize)]
struct Scores {
    value: f64,
    per_record: Vec<f64>,
}

#[derive(Deserialize)]
struct Sides {
    precision: Vec<f64>,
    recall: Vec<f64>,
}

#[derive(Deserialize)]
struct Inputs {
    confidences: Vec<f64>,
    probabilities: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Numbers {
    calibration: Reliability,
    brier_classes: BrierOfClasses,
    classes: BTreeMap<String, Classes>,
    choices: Questions,
    bootstrap: Resampled,
}

#[derive(Deserialize)]
struct Reliability {
    right: Vec<u8>,
    counts: Vec<u64>,
    accuracy: Vec<f64>,
    confidence: Vec<f64>,
    ece: f64,
    mce: f64,
    brier: f64,
}

#[derive(Deserialize)]
struct BrierOfClasses {
    answers: Vec<usize>,
    brier: f64,
}

#[derive(Deserialize)]
struct Classes {
    truth: Vec<String>,
    predicted: Vec<String>,
    labels: Vec<String>,
    confusion: Vec<Vec<u64>>,
    accuracy: f64,
    macro_f1: f64,
    micro_f1: f64,
    matthews: f64,
    precision: Vec<f64>,
    recall: Vec<f64>,
    f1: Vec<f64>,
    support: Vec<u64>,
}

#[derive(Deserialize)]
struct Questions {
    questions: Vec<Question>,
    chosen: Vec<[usize; 4]>,
    accuracy: [f64; 4],
}

#[derive(Deserialize)]
struct Question {
    log_likelihoods: Vec<f64>,
    /// In characters, in bytes and in tokens.
    lengths: [Vec<usize>; 3],
    answer: usize,
}

#[derive(Deserialize)]
struct Resampled {
    seed: u64,
    mean: f64,
    interval: BTreeMap<String, [f64; 2]>,
}

fn golden() -> Golden {
    serde_json::from_str(&files::read_to_string(Path::new("../../fixtures/parity/metrics.json")).unwrap()).unwrap()
}

impl Golden {
    fn records(&self) -> Vec<TextRecord> {
        let text = |&idx: &usize| self.texts[idx].clone();
        let record = |pair: &Vec<usize>| TextRecord { prediction: text(&pair[0]), references: pair[1..].iter().map(text).collect() };
        self.pairs.iter().map(record).collect()
    }
}

fn close(found: f64, want: f64) -> bool {
    (found - want).abs() < TOLERANCE
}

fn all_close(found: &[f64], want: &[f64]) -> bool {
    found.len() == want.len() && found.iter().zip(want).all(|(&found, &want)| close(found, want))
}

fn score(name: &str, records: &[TextRecord]) -> TextScores {
    TextMetric::by_name(name).unwrap().score(records).unwrap()
}

#[test]
fn every_text_metric_is_that_of_its_package_for_the_corpus_and_each_record() {
    let golden = golden();
    let records = golden.records();
    assert!(records.len() > 500);
    let mut names: Vec<&str> = TEXT_METRICS.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    assert_eq!(golden.metrics.keys().map(String::as_str).collect::<Vec<_>>(), names);
    for (name, want) in &golden.metrics {
        let found = score(name, &records);
        assert_eq!(found.per_record.len(), want.per_record.len());
        for ((record, &found), &want) in records.iter().zip(&found.per_record).zip(&want.per_record) {
            assert!(close(found, want), "{name}: {found} where the package has {want}: {record:?}");
        }
        assert!(close(found.value, want.value), "{name}: {} where the package has {}", found.value, want.value);
    }
}

#[test]
fn precision_and_recall_of_rouge_are_those_of_the_package() {
    let golden = golden();
    let records = golden.records();
    let kinds = [
        ("rouge1", RougeKind::Runs(1)),
        ("rouge2", RougeKind::Runs(2)),
        ("rougeL", RougeKind::Subsequence),
        ("rougeLsum", RougeKind::Lines),
    ];
    assert_eq!(golden.rouge.len(), 2 * kinds.len());
    for (name, kind) in kinds {
        for (suffix, stem) in [("", false), ("_stemmed", true)] {
            let want = &golden.rouge[&format!("{name}{suffix}")];
            for (idx, record) in records.iter().enumerate() {
                let found = Rouge { kind, stem }.score(&record.prediction, &record.references).unwrap();
                let sides = (want.precision[idx], want.recall[idx]);
                assert!(close(found.precision, sides.0) && close(found.recall, sides.1), "{name}{suffix}: {found:?} {sides:?} {record:?}");
            }
        }
    }
}

#[test]
fn a_wrong_setting_would_be_seen() {
    let golden = golden();
    let records = golden.records();
    let mut tried = 0;
    for (name, settings) in &golden.wrong {
        let found = score(name, &records).value;
        for (setting, &wrong) in settings {
            assert!((found - wrong).abs() > TEETH, "{name} is that of `{setting}` too");
            tried += 1;
        }
    }
    assert!(tried > 20);
    // The same code with that setting finds the other value, so it is the setting that the values above hold.
    let beta = |beta, kind: Chrf| Chrf { beta, ..kind }.scores(&records).value;
    for (name, kind) in [("chrf", Chrf::PLAIN), ("chrf++", Chrf::WITH_WORDS)] {
        assert!(close(beta(1.0, kind), golden.wrong[name]["beta 1"]) && close(beta(3.0, kind), golden.wrong[name]["beta 3"]));
    }
    assert!(close(Chrf { word_order: 1, beta: 2.0 }.scores(&records).value, golden.wrong["chrf++"]["chrF+"]));
    let every_order = records.iter().map(|record| BleuCounts::of(&record.prediction, &record.references).corpus()).sum::<f64>();
    assert!(close(every_order / records.len() as f64, golden.wrong["sentence_bleu"]["every order"]));
}

#[test]
fn calibration_and_brier_are_those_of_scikit_learn() {
    let Golden { numbers, inputs, .. } = golden();
    let want = numbers.calibration;
    let right: Vec<bool> = want.right.iter().map(|&right| right == 1).collect();
    let found = calibration(&inputs.confidences, &right, DEFAULT_BINS).unwrap();
    assert_eq!(found.bins.iter().map(|bin| bin.n_records).collect::<Vec<_>>(), want.counts);
    assert!(all_close(&found.bins.iter().filter_map(|bin| bin.accuracy).collect::<Vec<_>>(), &want.accuracy));
    assert!(all_close(&found.bins.iter().filter_map(|bin| bin.confidence).collect::<Vec<_>>(), &want.confidence));
    assert!(close(found.ece, want.ece) && close(found.mce, want.mce), "{found:?}");
    assert!(close(brier_binary(&inputs.confidences, &right).unwrap(), want.brier));
    let want = numbers.brier_classes;
    assert!(close(brier(&inputs.probabilities, &want.answers).unwrap(), want.brier));
    // Other bins give another error.
    assert!((calibration(&inputs.confidences, &right, 10).unwrap().ece - found.ece).abs() > TEETH);
}

#[test]
fn classification_is_that_of_scikit_learn() {
    let sets = golden().numbers.classes;
    assert_eq!(sets.len(), 4);
    for (name, want) in &sets {
        let found = Confusion::of(&want.truth, &want.predicted).unwrap();
        assert_eq!(found.labels(), want.labels, "{name}");
        for (truth, row) in want.labels.iter().zip(&want.confusion) {
            let counts: Vec<u64> = want.labels.iter().map(|predicted| found.count(truth, predicted)).collect();
            assert_eq!(&counts, row, "{name} {truth}");
        }
        let values = [found.accuracy(), found.macro_f1(), found.micro_f1(), found.matthews()];
        assert!(all_close(&values, &[want.accuracy, want.macro_f1, want.micro_f1, want.matthews]), "{name} {values:?}");
        let labels: Vec<_> = found.by_label().collect();
        assert!(all_close(&labels.iter().map(|label| label.precision).collect::<Vec<_>>(), &want.precision), "{name}");
        assert!(all_close(&labels.iter().map(|label| label.recall).collect::<Vec<_>>(), &want.recall), "{name}");
        assert!(all_close(&labels.iter().map(|label| label.f1).collect::<Vec<_>>(), &want.f1), "{name}");
        assert_eq!(labels.iter().map(|label| label.support).collect::<Vec<_>>(), want.support, "{name}");
    }
}

#[test]
fn choices_are_made_as_the_harness_makes_them() {
    let want = golden().numbers.choices;
    let record = |question: &Question| {
        let [n_characters, n_bytes, n_tokens] = &question.lengths;
        let choice = |(idx, &log_likelihood)| Choice {
            log_likelihood,
            n_characters: n_characters[idx],
            n_bytes: n_bytes[idx],
            n_tokens: n_tokens[idx],
        };
        ChoiceRecord { choices: question.log_likelihoods.iter().enumerate().map(choice).collect(), answer_idx: question.answer }
    };
    let records: Vec<ChoiceRecord> = want.questions.iter().map(record).collect();
    let kinds = [Normalisation::Raw, Normalisation::Characters, Normalisation::Bytes, Normalisation::Tokens];
    for (record, chosen) in records.iter().zip(&want.chosen) {
        assert_eq!(kinds.map(|kind| record.chosen_idx(kind).unwrap()), *chosen);
    }
    let found = choice_accuracy(&records).unwrap();
    assert!(all_close(&[found.raw, found.by_characters, found.by_bytes, found.by_tokens], &want.accuracy), "{found:?} {:?}", want.accuracy);
    assert_eq!(found.n_records, records.len());
}

/// Vigna's splitmix64, as numbers in [0, 1).
fn splitmix(mut state: u64) -> impl FnMut() -> f64 {
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[test]
fn the_interval_is_that_of_numpy_from_the_same_stream() {
    let golden = golden();
    let values = score("chrf", &golden.records()).per_record;
    let want = golden.numbers.bootstrap;
    assert_eq!(want.interval.len(), 2);
    for (level, ends) in &want.interval {
        let found = bootstrap_mean(&values, DEFAULT_RESAMPLES, level.parse().unwrap(), splitmix(want.seed)).unwrap();
        assert!(all_close(&[found.mean, found.low, found.high], &[want.mean, ends[0], ends[1]]), "{level}: {found:?} {ends:?}");
        assert!(found.low < found.mean && found.mean < found.high);
    }
}
