//! The text metrics by name.

use codex_core::{RegistryError, suggest};

use crate::error::EvalError;
use crate::text::answer::{exact_match, word_f1};
use crate::text::bleu::{corpus_bleu, sentence_bleu};
use crate::text::chrf::Chrf;
use crate::text::distinct::distinct;
use crate::text::rouge::{Rouge, RougeKind};
use crate::text::{TextRecord, TextScores};

/// A metric of texts: what it is called, what its values mean, and how it is computed.
#[derive(Clone, Copy, Debug)]
pub struct TextMetric {
    /// The name in configurations and reports.
    pub name: &'static str,
    /// What it measures, and as which program gives it.
    pub description: &'static str,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// The least and the greatest value there can be.
    pub range: (f64, f64),
    /// Whether each record must have a reference.
    pub needs_references: bool,
    /// Whether the value of all records is the mean of theirs, so that [`crate::text::bootstrap_mean`] of these is an interval of it.
    pub is_mean: bool,
    compute: fn(&[TextRecord]) -> Result<TextScores, EvalError>,
}

/// Most of them.
const SHARE: TextMetric = TextMetric {
    name: "",
    description: "",
    higher_is_better: true,
    range: (0.0, 1.0),
    needs_references: true,
    is_mean: true,
    compute: |records| Ok(TextScores::mean_of(vec![0.0; records.len()])),
};

/// Those that sacrebleu gives in hundredths, from counts of the whole corpus.
const OF_CORPUS: TextMetric = TextMetric { range: (0.0, 100.0), is_mean: false, ..SHARE };

/// Every metric.
pub const TEXT_METRICS: [TextMetric; 16] = [
    TextMetric {
        name: "exact_match",
        description: "share of predictions that are a reference, without case, punctuation and articles (SQuAD)",
        compute: |records| Ok(each(records, exact_match)),
        ..SHARE
    },
    TextMetric {
        name: "f1",
        description: "F1 of the words that prediction and best reference share, without case, punctuation and articles (SQuAD)",
        compute: |records| Ok(each(records, word_f1)),
        ..SHARE
    },
    TextMetric {
        name: "bleu",
        description: "BLEU of the corpus, tokenizer 13a, exponential smoothing (sacrebleu); of each record as `sentence_bleu`",
        compute: |records| Ok(corpus_bleu(records)),
        ..OF_CORPUS
    },
    TextMetric {
        name: "sentence_bleu",
        description: "mean of the records' BLEU, of the orders that a prediction is long enough for (sacrebleu)",
        is_mean: true,
        compute: |records| Ok(sentence_bleu(records)),
        ..OF_CORPUS
    },
    TextMetric {
        name: "chrf",
        description: "F2 of runs of one to six characters (sacrebleu)",
        compute: |records| Ok(Chrf::PLAIN.scores(records)),
        ..OF_CORPUS
    },
    TextMetric {
        name: "chrf++",
        description: "F2 of runs of one to six characters and one or two words (sacrebleu)",
        compute: |records| Ok(Chrf::WITH_WORDS.scores(records)),
        ..OF_CORPUS
    },
    TextMetric {
        name: "rouge1",
        description: "mean F1 of words (rouge-score)",
        compute: |records| rouge(records, RougeKind::Runs(1), false),
        ..SHARE
    },
    TextMetric {
        name: "rouge2",
        description: "mean F1 of pairs of words (rouge-score)",
        compute: |records| rouge(records, RougeKind::Runs(2), false),
        ..SHARE
    },
    TextMetric {
        name: "rougeL",
        description: "mean F1 of the longest common subsequence of words (rouge-score)",
        compute: |records| rouge(records, RougeKind::Subsequence, false),
        ..SHARE
    },
    TextMetric {
        name: "rougeLsum",
        description: "mean F1 of the union of longest common subsequences over lines (rouge-score)",
        compute: |records| rouge(records, RougeKind::Lines, false),
        ..SHARE
    },
    TextMetric {
        name: "rouge1_stemmed",
        description: "mean F1 of words, stemmed (rouge-score with use_stemmer)",
        compute: |records| rouge(records, RougeKind::Runs(1), true),
        ..SHARE
    },
    TextMetric {
        name: "rouge2_stemmed",
        description: "mean F1 of pairs of words, stemmed (rouge-score with use_stemmer)",
        compute: |records| rouge(records, RougeKind::Runs(2), true),
        ..SHARE
    },
    TextMetric {
        name: "rougeL_stemmed",
        description: "mean F1 of the longest common subsequence of words, stemmed (rouge-score with use_stemmer)",
        compute: |records| rouge(records, RougeKind::Subsequence, true),
        ..SHARE
    },
    TextMetric {
        name: "rougeLsum_stemmed",
        description: "mean F1 of the union of longest common subsequences over lines, stemmed (rouge-score with use_stemmer)",
        compute: |records| rouge(records, RougeKind::Lines, true),
        ..SHARE
    },
    TextMetric {
        name: "distinct1",
        description: "share of the words of all predictions that are different ones",
        needs_references: false,
        is_mean: false,
        compute: |records| Ok(distinct(records, 1)),
        ..SHARE
    },
    TextMetric {
        name: "distinct2",
        description: "share of the pairs of words of all predictions that are different ones",
        needs_references: false,
        is_mean: false,
        compute: |records| Ok(distinct(records, 2)),
        ..SHARE
    },
];

impl TextMetric {
    /// The metric of this name, whatever its case; [`EvalError::Registry`] names the nearest where there is none.
    pub fn by_name(name: &str) -> Result<&'static Self, EvalError> {
        static ALL: &[TextMetric] = &TEXT_METRICS;
        let names = || ALL.iter().map(|metric| metric.name);
        ALL.iter().find(|metric| metric.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            EvalError::Registry(RegistryError::Unknown {
                kind: "text metric",
                name: name.to_owned(),
                known: names().map(str::to_owned).collect(),
                nearest: suggest::nearest(name, names()).map(str::to_owned),
            })
        })
    }

    /// The value of the records together and of each.
    pub fn score(&self, records: &[TextRecord]) -> Result<TextScores, EvalError> {
        if records.is_empty() {
            return Err(EvalError::NoRecords { what: self.name });
        }
        if self.needs_references
            && let Some(idx) = records.iter().position(|record| record.references.is_empty())
        {
            return Err(EvalError::NoReference { metric: self.name, record: idx + 1 });
        }
        (self.compute)(records)
    }
}

fn each(records: &[TextRecord], score: fn(&str, &[String]) -> f64) -> TextScores {
    TextScores::mean_of(records.iter().map(|record| score(&record.prediction, &record.references)).collect())
}

fn rouge(records: &[TextRecord], kind: RougeKind, stem: bool) -> Result<TextScores, EvalError> {
    Rouge { kind, stem }.scores(records)
}

#[cfg(test)]
mod tests {
    use codex_core::{ExitClass, Failure as _};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_found_and_a_miss_names_the_nearest() {
        assert_eq!(TextMetric::by_name("ROUGEL").unwrap().name, "rougeL");
        let miss = TextMetric::by_name("chfr++").unwrap_err();
        assert!(miss.to_string().starts_with("unknown text metric `chfr++`; known: exact_match, f1, bleu"), "{miss}");
        assert_eq!((miss.hint().as_deref(), miss.exit_class()), (Some("did you mean `chrf++`?"), ExitClass::Usage));
        for (idx, metric) in TEXT_METRICS.iter().enumerate() {
            assert!(
                !metric.description.is_empty() && TEXT_METRICS[..idx].iter().all(|other| !other.name.eq_ignore_ascii_case(metric.name))
            );
        }
    }

    #[test]
    fn records_are_wanted_and_references_where_something_is_compared() {
        let alone = [TextRecord::new("a", &["a"]), TextRecord::new("a b", &[])];
        for metric in &TEXT_METRICS {
            assert_eq!(metric.score(&[]).unwrap_err().to_string(), format!("{} of no records", metric.name));
            let found = metric.score(&alone).map_err(|error| error.to_string());
            if metric.needs_references {
                assert_eq!(found.unwrap_err(), format!("record 2 has no reference, and `{}` compares with one", metric.name));
            } else {
                assert_eq!(found.unwrap().per_record.len(), 2);
            }
        }
    }

    #[test]
    fn identical_texts_are_as_good_as_can_be_and_texts_with_nothing_in_common_as_bad() {
        let same = [TextRecord::new("Nothing was ever said so well.", &["Nothing was ever said so well."])];
        let other = [TextRecord::new("bb bb bb bb", &["xx xx xx xx"])];
        for metric in TEXT_METRICS.iter().filter(|metric| metric.needs_references) {
            let (best, worst) = (metric.score(&same).unwrap(), metric.score(&other).unwrap());
            assert!((best.value - metric.range.1).abs() < 1e-9, "{} {best:?}", metric.name);
            assert!((worst.value - metric.range.0).abs() < 1e-9, "{} {worst:?}", metric.name);
        }
    }

    proptest! {
        #[test]
        fn any_texts_give_values_within_the_range(
            texts in prop::collection::vec((".{0,30}", prop::collection::vec("[a-c .,\\n'é0-9-]{0,20}|.{0,20}", 1..3)), 1..5)
        ) {
            let records: Vec<TextRecord> =
                texts.into_iter().map(|(prediction, references)| TextRecord { prediction, references }).collect();
            for metric in &TEXT_METRICS {
                let found = metric.score(&records).unwrap();
                prop_assert_eq!(found.per_record.len(), records.len());
                let (least, most) = metric.range;
                for value in found.per_record.iter().chain([&found.value]) {
                    prop_assert!((least..=most + 1e-9).contains(value), "{} {}", metric.name, value);
                }
                if metric.is_mean {
                    let mean = found.per_record.iter().sum::<f64>() / records.len() as f64;
                    prop_assert!((found.value - mean).abs() < 1e-9);
                }
            }
        }

        #[test]
        fn another_reference_never_lowers_what_takes_the_best(prediction in "[a-c ]{0,12}", one in "[a-c ]{0,12}", two in "[a-c ]{0,12}") {
            for name in ["exact_match", "f1", "rouge1", "rougeL", "rougeLsum"] {
                let metric = TextMetric::by_name(name).unwrap();
                let with = |references: &[&str]| metric.score(&[TextRecord::new(&prediction, references)]).unwrap().value;
                prop_assert!(with(&[&one, &two]) >= with(&[&one]).max(with(&[&two])) - 1e-12, "{}", name);
            }
        }
    }
}
