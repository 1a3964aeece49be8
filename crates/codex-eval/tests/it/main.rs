//! Evaluation against arithmetic done by hand: batches do not matter, the baseline is the counted one, the metrics are of the real scores.
#![expect(clippy::unwrap_used, reason = "a test's setup fails loudly")]

mod text;

use burn::tensor::Device;
use codex_core::{Digest, ExitClass, Failure};
use codex_data::{DataConfig, MemorySource, Split, TokenCache, WindowLoader, open_sources, prepare};
use codex_eval::evaluate::EvalWindows;
use codex_eval::{EvalError, Metrics, evaluate, unigram};
use codex_model::{Decoder, ModelConfig, WindowBatch, parameters};
use codex_safety::{SafetyConfig, Scanner};
use codex_tokenize::{ByteTokenizer, Tokenizer, TokenizerConfig};

const TRAIN: &str = "abracadabra";
const HELD_OUT: &str = "a bad car";

struct Bench {
    _folder: tempfile::TempDir,
    cache: TokenCache,
    tokenizer: ByteTokenizer,
    model: Decoder,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
        let config = DataConfig {
            train: vec!["builtin:train".to_owned()],
            validation: vec!["builtin:held-out".to_owned()],
            ..DataConfig::default()
        };
        let sources = open_sources(&config, &[MemorySource::new("train", TRAIN), MemorySource::new("held-out", HELD_OUT)]).unwrap();
        let scanner = Scanner::new(&SafetyConfig::default()).unwrap();
        let cache = prepare(&config, &sources, &tokenizer, &scanner, Digest::of_bytes(b""), folder.path(), &mut |_| {}).unwrap();
        let model =
            ModelConfig { d_model: 8, n_layers: 1, n_heads: 2, n_kv_heads: 2, context_length: 4, init_std: 0.5, ..ModelConfig::default() };
        let model = Decoder::init(&model, tokenizer.vocab_size(), 1, &Device::flex()).unwrap();
        Self { _folder: folder, cache, tokenizer, model }
    }

    fn token_bytes(&self) -> Vec<usize> {
        (0..self.tokenizer.vocab_size() as u32).map(|id| self.tokenizer.token_bytes(id).unwrap()).collect()
    }

    fn loader(&self) -> WindowLoader {
        WindowLoader::new(self.cache.split(Split::Validation), 4, 0, false, false).unwrap()
    }
}

fn windows(loader: &WindowLoader, batch_size: usize, max_windows: u64) -> EvalWindows<'_> {
    EvalWindows { name: "validation", loader, max_windows, batch_size }
}

fn close(a: &Metrics, b: &Metrics) -> bool {
    a.n_tokens == b.n_tokens && a.named().iter().zip(b.named()).all(|((_, a), (_, b))| (a - b).abs() < 1e-6)
}

#[test]
fn the_metrics_are_those_of_the_models_own_scores() {
    let bench = Bench::new();
    let loader = bench.loader();
    let mut ticks = Vec::new();
    let found = evaluate(&bench.model, &windows(&loader, 1, 0), &bench.token_bytes(), &mut |done, all| {
        ticks.push((done, all));
        true
    })
    .unwrap();
    // By hand: the nine bytes and the end of text are ten tokens, the first of which is no target.
    let ids = bench.tokenizer.encode(HELD_OUT).unwrap();
    let mut stream = ids.clone();
    stream.push(bench.tokenizer.end_of_text());
    let (mut nll, mut correct, mut bytes) = (0.0, 0, 0);
    for start in (0..9).step_by(4) {
        let inputs = &stream[start..(start + 4).min(9)];
        let logits = bench.model.forward(&WindowBatch { n_rows: 1, inputs, segments: None, dropout: None }).unwrap();
        let logits = parameters::to_host("logits", logits).unwrap().values;
        for (i, scores) in logits.chunks(bench.tokenizer.vocab_size()).enumerate() {
            let target = stream[start + i + 1] as usize;
            let sum: f64 = scores.iter().map(|&s| f64::from(s).exp()).sum();
            nll += sum.ln() - f64::from(scores[target]);
            correct += u32::from(scores.iter().all(|&s| s <= scores[target]));
            bytes += usize::from(target != bench.tokenizer.end_of_text() as usize);
        }
    }
    assert_eq!((found.n_tokens, bytes), (9, 8));
    assert!((found.loss - nll / 9.0).abs() < 1e-5, "{} {}", found.loss, nll / 9.0);
    assert!((found.perplexity - (nll / 9.0).exp()).abs() < 1e-3 * found.perplexity);
    assert!((found.bits_per_byte - nll / 8.0 / std::f64::consts::LN_2).abs() < 1e-5);
    assert!((found.token_accuracy - f64::from(correct) / 9.0).abs() < 1e-9);
    assert_eq!(ticks, [(1, 3), (2, 3), (3, 3)]);
}

#[test]
fn the_batch_size_changes_nothing_and_the_limit_is_kept() {
    let bench = Bench::new();
    let loader = bench.loader();
    let run = |batch_size, max_windows| {
        evaluate(&bench.model, &windows(&loader, batch_size, max_windows), &bench.token_bytes(), &mut |_, _| true).unwrap()
    };
    assert!(close(&run(1, 0), &run(3, 0)) && close(&run(1, 0), &run(100, 0)));
    assert_eq!(run(2, 1).n_tokens, 4);
    assert!(!close(&run(1, 1), &run(1, 0)));
}

#[test]
fn the_unigram_model_is_the_counted_one() {
    let bench = Bench::new();
    let loader = bench.loader();
    let found = unigram(&[bench.cache.split(Split::Train)], &[windows(&loader, 2, 0)], &bench.token_bytes()).unwrap();
    // abracadabra: a 5, b 2, r 2, c 1, d 1, one end of text; add-one smoothing over 258 ids.
    let count = |byte: char| TRAIN.chars().filter(|&c| c == byte).count();
    let total = 12 + bench.tokenizer.vocab_size();
    let targets = HELD_OUT.chars().skip(1).map(count).chain([1]);
    let nll: f64 = targets.map(|n| -(((n + 1) as f64) / total as f64).ln()).sum();
    assert!((found.loss - nll / 9.0).abs() < 1e-9, "{} {}", found.loss, nll / 9.0);
    assert!((found.token_accuracy - 2.0 / 9.0).abs() < 1e-9, "two of the targets are the commonest token, a");
}

#[test]
fn a_caller_can_stop_it_and_a_loss_that_is_no_number_is_told() {
    let bench = Bench::new();
    let loader = bench.loader();
    let stopped = evaluate(&bench.model, &windows(&loader, 1, 0), &bench.token_bytes(), &mut |done, _| done < 2);
    assert!(matches!(stopped, Err(EvalError::Interrupted { done: 2, all: 3 })), "{stopped:?}");
    let mut broken = parameters::collect(&bench.model).unwrap();
    broken.get_mut("final_norm.weight").unwrap().values.fill(f32::NAN);
    let broken = parameters::load(bench.model.clone(), broken).unwrap();
    let error = evaluate(&broken, &windows(&loader, 1, 0), &bench.token_bytes(), &mut |_, _| true).unwrap_err();
    assert!(matches!(error, EvalError::NotFinite { .. }) && error.hint().unwrap().contains("learning_rate"), "{error}");
}

#[test]
fn nothing_to_evaluate_on_is_an_error() {
    let error = EvalError::Empty { split: "validation".to_owned() };
    assert_eq!(error.exit_class(), ExitClass::Data);
    assert!(error.hint().unwrap().contains("data.validation"));
}
