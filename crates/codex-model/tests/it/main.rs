//! The network against arithmetic: gradients by finite differences, cache against full pass, documents apart or together.

#![expect(clippy::unwrap_used, reason = "a test's setup fails loudly")]

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use codex_core::{ExitClass, Failure, HostTensor, Stream, TensorMap};
use codex_model::{
    Activation, BatchPrompt, Bias, CachedSession, Decoder, DropoutDraws, FullSession, Generated, KvCache, LossSettings, ModelConfig,
    ModelError, NormKind, PositionKind, Precision, RotaryScaling, RotaryScalingKind, SamplingConfig, Session, StopReason, Targets,
    WindowBatch, generate, generate_batch, parameters,
};

mod adapters;
mod encoder;
mod reading;

const VOCAB: usize = 13;

fn small() -> ModelConfig {
    ModelConfig { d_model: 12, n_layers: 2, n_heads: 2, n_kv_heads: 2, context_length: 8, init_std: 0.3, ..ModelConfig::default() }
}

fn yarn() -> RotaryScaling {
    RotaryScaling { kind: RotaryScalingKind::Yarn, factor: 2.0, original_context_length: 4, ..RotaryScaling::default() }
}

/// One of each choice at least once.
fn variants() -> Vec<ModelConfig> {
    vec![
        small(),
        ModelConfig {
            norm: NormKind::Layer,
            positions: PositionKind::Learned,
            activation: Activation::GeluTanh,
            bias: Bias::All,
            ..small()
        },
        ModelConfig { d_model: 24, n_heads: 4, n_kv_heads: 2, tie_embeddings: false, activation: Activation::Gelu, ..small() },
        ModelConfig { n_kv_heads: 1, d_feed_forward: 20, bias: Bias::All, norm: NormKind::Layer, ..small() },
        ModelConfig { window: 3, ..small() },
        ModelConfig { head_dim: 8, n_kv_heads: 1, qk_norm: true, bias: Bias::Qkv, rotary_scaling: yarn(), ..small() },
    ]
}

/// Windows of two documents, whole ones, and whole ones with dropout.
fn batches<'a>(inputs: &'a [u32], segments: &'a [u32]) -> [WindowBatch<'a>; 3] {
    let draws = DropoutDraws { seed: 1, step: 2, first_window: 5, probability: 0.2 };
    [windows(inputs, 2, Some(segments)), windows(inputs, 2, None), WindowBatch { dropout: Some(draws), ..windows(inputs, 2, None) }]
}

fn ids(seed: u64, n: usize) -> Vec<u32> {
    let mut stream = Stream::new(seed, "test ids", 0);
    (0..n).map(|_| stream.below(VOCAB as u64) as u32).collect()
}

fn windows<'a>(inputs: &'a [u32], n_rows: usize, segments: Option<&'a [u32]>) -> WindowBatch<'a> {
    WindowBatch { n_rows, inputs, segments, dropout: None }
}

#[test]
fn the_shapes_told_are_the_shapes_built() {
    for config in variants() {
        let model = Decoder::init(&config, VOCAB, 1, &Device::flex()).unwrap();
        let built: Vec<_> = parameters::collect(&model).unwrap().into_iter().map(|(path, tensor)| (path, tensor.shape)).collect();
        let told: Vec<_> = parameters::shapes(&config, VOCAB).into_iter().collect();
        assert_eq!(built, told);
        assert_eq!(model.num_params() as u64, config.n_parameters(VOCAB));
    }
}

#[test]
fn initial_values_depend_on_seed_and_path_alone() {
    let config = small();
    let first = parameters::collect(&Decoder::init(&config, VOCAB, 5, &Device::flex()).unwrap()).unwrap();
    let again = parameters::collect(&Decoder::init(&config, VOCAB, 5, &Device::flex().autodiff()).unwrap()).unwrap();
    let other = parameters::collect(&Decoder::init(&config, VOCAB, 6, &Device::flex()).unwrap()).unwrap();
    assert_eq!(first, again);
    assert_ne!(first["embedding"], other["embedding"]);
    assert_ne!(first["blocks.0.attention.qkv.weight"], first["blocks.1.attention.qkv.weight"]);
    assert!(first["final_norm.weight"].values.iter().all(|&value| (value - 1.0).abs() < f32::EPSILON));
    // The residual projections are narrower by the square root of 2 x 2 layers.
    let std = |path: &str| {
        let values = &first[path].values;
        (values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64).sqrt()
    };
    assert!((std("blocks.0.attention.qkv.weight") - 0.3).abs() < 0.04);
    assert!((std("blocks.0.feed_forward.down.weight") - 0.15).abs() < 0.03);
}

fn loss(model: &Decoder, batch: &WindowBatch<'_>, targets: &[u32], weights: &[f32]) -> f64 {
    let scores = model.token_scores(batch, targets).unwrap();
    scores.iter().zip(weights).map(|((nll, _), &weight)| f64::from(*nll) * f64::from(weight)).sum()
}

/// Targets of plain cross-entropy.
fn plain<'a>(ids: &'a [u32], weights: &'a [f32]) -> Targets<'a> {
    Targets { ids, weights, settings: LossSettings::default() }
}

/// The gradient of every parameter that is trained, by path; no other has one.
fn gradients(model: &Decoder, batch: &WindowBatch<'_>, targets: &[u32], weights: &[f32]) -> TensorMap {
    struct Visit<'g> {
        path: Vec<String>,
        gradients: &'g burn::tensor::Gradients,
        trained: BTreeMap<String, Vec<usize>>,
        found: TensorMap,
    }
    impl ModuleVisitor for Visit<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let path = self.path.join(".");
            let gradient = param.val().grad(self.gradients);
            assert_eq!(gradient.is_some(), self.trained.contains_key(&path), "{path}");
            let Some(gradient) = gradient else { return };
            self.found.insert(path.clone(), parameters::to_host(&path, gradient).unwrap());
        }
    }
    let gradients = model.loss(batch, plain(targets, weights)).unwrap().sum.backward();
    let trained = model.trained_shapes();
    let mut visit = Visit { path: Vec::new(), gradients: &gradients, trained, found: TensorMap::new() };
    model.visit(&mut visit);
    visit.found
}

#[test]
fn gradients_agree_with_finite_differences() {
    let inputs = ids(1, 12);
    let targets = ids(2, 12);
    let weights = [1.0, 1.0, 0.0, 1.0, 1.0, 0.5, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0];
    let segments = [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 2];
    for (n, config) in variants().into_iter().enumerate() {
        for batch in batches(&inputs, &segments) {
            let model = Decoder::init(&config, VOCAB, 3, &Device::flex().autodiff()).unwrap();
            let values = parameters::collect(&model).unwrap();
            let analytic = gradients(&model, &batch, &targets, &weights);
            for (path, tensor) in &values {
                let mut stream = Stream::new(9, path, 0);
                let direction: Vec<f32> = tensor.values.iter().map(|_| stream.normal() as f32).collect();
                let length = direction.iter().map(|d| f64::from(d * d)).sum::<f64>().sqrt();
                let epsilon = 0.004;
                let moved = |sign: f64| {
                    let mut shifted = values.clone();
                    let step = (sign * epsilon / length) as f32;
                    let pairs = shifted.get_mut(path).unwrap().values.iter_mut().zip(&direction);
                    pairs.for_each(|(value, d)| *value += step * d);
                    let model = Decoder::zeros(&config, VOCAB, &Device::flex()).unwrap();
                    loss(&parameters::load(model, &shifted).unwrap(), &batch, &targets, &weights)
                };
                let numeric = (moved(1.0) - moved(-1.0)) / (2.0 * epsilon);
                let along = analytic[path].values.iter().zip(&direction).map(|(g, d)| f64::from(g * d)).sum::<f64>() / length;
                let error = (numeric - along).abs() / (numeric.abs() + along.abs()).max(0.1);
                assert!(error < 0.01, "variant {n}, {path}: analytic {along}, numeric {numeric}");
            }
        }
    }
}

#[test]
fn dropout_is_a_function_of_seed_step_and_window() {
    let model = Decoder::init(&small(), VOCAB, 3, &Device::flex()).unwrap();
    let (inputs, targets, weights) = (ids(1, 16), ids(2, 16), [1.0; 16]);
    let draws = DropoutDraws { seed: 1, step: 2, first_window: 4, probability: 0.5 };
    let sum = |from: usize, to: usize, dropout| {
        let batch = WindowBatch { dropout, ..windows(&inputs[from..to], (to - from) / 8, None) };
        loss(&model, &batch, &targets[from..to], &weights[from..to])
    };
    let whole = sum(0, 16, Some(draws));
    let parts = sum(0, 8, Some(draws)) + sum(8, 16, Some(DropoutDraws { first_window: 5, ..draws }));
    assert!((whole - parts).abs() < 1e-4, "{whole} of the whole, {parts} of its windows");
    let others = [DropoutDraws { seed: 2, ..draws }, DropoutDraws { step: 3, ..draws }, DropoutDraws { first_window: 5, ..draws }];
    for other in others {
        assert!((sum(0, 16, Some(other)) - whole).abs() > 1e-2, "{other:?}");
    }
    let nothing = DropoutDraws { probability: 0.0, ..draws };
    assert_eq!(sum(0, 16, Some(nothing)).to_bits(), sum(0, 16, None).to_bits());
    let all = DropoutDraws { probability: 1.0, ..draws };
    let refused = model.forward(&WindowBatch { dropout: Some(all), ..windows(&inputs, 2, None) });
    assert!(matches!(refused, Err(ModelError::BadInput { .. })));
}

#[test]
fn a_window_hides_what_is_far() {
    let model = Decoder::init(&ModelConfig { window: 3, n_layers: 1, ..small() }, VOCAB, 4, &Device::flex()).unwrap();
    let last = |text: &[u32]| CachedSession::new(&model).feed(text).unwrap();
    let (text, mut near, mut far) = (ids(3, 8), ids(3, 8), ids(3, 8));
    far[4] = (far[4] + 1) % VOCAB as u32;
    near[5] = (near[5] + 1) % VOCAB as u32;
    assert_eq!(last(&text), last(&far), "the last of eight sees itself and two before it");
    assert_ne!(last(&text), last(&near));
}

#[test]
fn cached_and_full_reading_agree() {
    for config in variants() {
        let model = Decoder::init(&config, VOCAB, 4, &Device::flex()).unwrap();
        let text = ids(3, 8);
        let (mut cached, mut full) = (CachedSession::new(&model), FullSession::new(&model));
        for piece in [&text[..3], &text[3..4], &text[4..7], &text[7..8]] {
            let (a, b) = (cached.feed(piece).unwrap(), full.feed(piece).unwrap());
            let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-5, "{apart}");
            assert_eq!(cached.len(), full.len());
        }
        assert!(matches!(cached.feed(&[0]), Err(ModelError::TooLong { found: 9, context_length: 8 })));
        assert!(full.feed(&[0]).is_err());
    }
}

#[test]
fn documents_kept_apart_read_as_if_alone() {
    for config in variants() {
        let model = Decoder::init(&config, VOCAB, 4, &Device::flex()).unwrap();
        let text = ids(5, 7);
        let segments = [0, 0, 0, 1, 1, 1, 1];
        let scores = |batch: &WindowBatch<'_>| parameters::to_host("logits", model.forward(batch).unwrap()).unwrap().values.into_vec();
        let together = scores(&windows(&text, 1, Some(&segments)));
        let apart = [scores(&windows(&text[..3], 1, None)), scores(&windows(&text[3..], 1, None))].concat();
        let difference = together.iter().zip(&apart).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-5, "{difference}");
        let mixed = scores(&windows(&text, 1, None));
        assert!(mixed.iter().zip(&apart).any(|(a, b)| (a - b).abs() > 1e-3), "without segments the documents see each other");
    }
}

#[test]
fn generation_has_the_same_bits_at_any_thread_count() {
    // Wide enough that products and the cache are shared among threads.
    let config = ModelConfig { d_model: 256, n_heads: 8, n_kv_heads: 4, context_length: 320, ..small() };
    let model = Decoder::init(&config, 3000, 8, &Device::flex()).unwrap();
    let sampling = SamplingConfig { temperature: 1.0, top_p: 1.0, seed: 1, max_new_tokens: 24, ..SamplingConfig::default() };
    let prompt: Vec<u32> = (0..290).map(|i| i * 7 % 3000).collect();
    let run = || generate(&mut CachedSession::new(&model), &prompt, 9999, &sampling, &mut |_| true).unwrap();
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run);
    let one = on(1);
    assert_eq!(one.ids.len(), 24);
    let bits = |all: &[f32]| all.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for threads in [2, 3, 4, 8] {
        let found = on(threads);
        assert_eq!((&found.ids, bits(&found.log_probabilities)), (&one.ids, bits(&one.log_probabilities)), "{threads} threads");
    }
}

#[test]
fn a_batch_reads_as_each_by_itself() {
    for config in variants() {
        for device in [Device::flex(), reference()] {
            let model = Decoder::init(&config, VOCAB, 4, &device).unwrap();
            let texts = [ids(3, 8), ids(4, 8), ids(5, 8)];
            let mut alone: Vec<_> = texts.iter().map(|_| CachedSession::new(&model)).collect();
            let mut caches: Vec<_> = texts.iter().map(|_| KvCache::new(Precision::F32)).collect();
            // Prompts of unequal lengths, then pieces of unequal lengths: some one token, some more.
            for cuts in [[0..3, 0..1, 0..5], [3..4, 1..4, 5..6], [4..5, 4..5, 6..7], [5..8, 5..6, 7..8]] {
                let pieces: Vec<&[u32]> = texts.iter().zip(&cuts).map(|(text, cut)| &text[cut.clone()]).collect();
                let mut all: Vec<&mut KvCache> = caches.iter_mut().collect();
                let scores = parameters::to_host("scores", model.forward_cached_batch(&pieces, &mut all).unwrap()).unwrap().values;
                for ((scores, session), piece) in scores.chunks(VOCAB).zip(&mut alone).zip(pieces) {
                    let expected = session.feed(piece).unwrap();
                    assert!(scores.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{scores:?} {expected:?}");
                }
            }
            // The second cannot take four more, so none of the caches grows.
            let lengths = |caches: &[KvCache]| caches.iter().map(KvCache::len).collect::<Vec<_>>();
            let before = lengths(&caches);
            let (first, mut rest) = caches.split_first_mut().map(|(first, rest)| (first, rest.iter_mut().collect::<Vec<_>>())).unwrap();
            first.clear();
            rest.insert(0, first);
            assert!(matches!(model.forward_cached_batch(&[&[1], &[1, 2, 3], &[1]], &mut rest), Err(ModelError::TooLong { .. })));
            assert_eq!(lengths(&caches), [0, before[1], before[2]]);
        }
    }
}

#[test]
fn a_batch_generates_what_each_prompt_gives_by_itself() {
    let model = Decoder::init(&small(), VOCAB, 8, &Device::flex()).unwrap();
    let prompt = |seed: u64, max_new_tokens: usize| BatchPrompt {
        ids: ids(seed, 1 + seed as usize % 4),
        sampling: SamplingConfig { temperature: 1.0, top_p: 1.0, seed, max_new_tokens, ..SamplingConfig::default() },
    };
    // Some reach the end of the context of 8, one ends at once, and one is stopped by its caller.
    let prompts = [prompt(1, 30), prompt(2, 3), prompt(3, 0), prompt(5, 17), prompt(6, 9)];
    let more = |index: usize, n: usize| !(index == 4 && n == 5);
    for end_of_text in [999, 4] {
        let mut counts = [0; 5];
        let mut told = |index: usize, _: u32| {
            counts[index] += 1;
            more(index, counts[index])
        };
        let batch = generate_batch(&model, Precision::F32, &prompts, end_of_text, &mut told).unwrap();
        for (index, (found, prompt)) in batch.iter().zip(&prompts).enumerate() {
            let mut n = 0;
            let mut go_on = |_| {
                n += 1;
                more(index, n)
            };
            let alone = generate(&mut CachedSession::new(&model), &prompt.ids, end_of_text, &prompt.sampling, &mut go_on).unwrap();
            let bits = |all: &[f32]| all.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let of = |text: &Generated| (text.ids.clone(), bits(&text.log_probabilities), text.stopped);
            assert_eq!(of(found), of(&alone), "prompt {index}");
        }
    }
    assert!(generate_batch(&model, Precision::F32, &[], 9, &mut |_, _| true).unwrap().is_empty());
}

#[test]
fn a_cache_in_bf16_is_near_and_never_mixed_with_another() {
    let model = Decoder::init(&small(), VOCAB, 4, &Device::flex()).unwrap();
    let text = ids(3, 8);
    let (mut whole, mut half) = (CachedSession::new(&model), CachedSession::with_cache(&model, Precision::Bf16));
    let mut apart = 0.0_f32;
    for piece in [&text[..3], &text[3..4], &text[4..8]] {
        let (whole, half) = (whole.feed(piece).unwrap(), half.feed(piece).unwrap());
        let scale = whole.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        apart = whole.iter().zip(&half).map(|(a, b)| (a - b).abs() / scale).fold(apart, f32::max);
    }
    assert!(apart > 0.0 && apart < 2e-2, "{apart}");
    let (mut one, mut other) = (KvCache::new(Precision::F32), KvCache::new(Precision::Bf16));
    assert!(model.forward_cached_batch(&[&[1], &[1]], &mut [&mut one, &mut other]).is_err());
    assert!(model.forward_cached_batch(&[&[1]], &mut []).is_err());
}

#[test]
fn weights_in_8_bits_score_nearly_the_same() {
    for config in variants() {
        let model = Decoder::init(&config, VOCAB, 4, &Device::flex()).unwrap();
        let (text, targets) = (ids(3, 8), ids(4, 8));
        let scores = |model: &Decoder| CachedSession::new(model).feed(&text).unwrap();
        let losses = |model: &Decoder| model.token_scores(&windows(&text, 1, None), &targets).unwrap();
        let (whole, of_whole) = (scores(&model), losses(&model));
        let quantized = model.quantize().unwrap();
        let (coarse, of_coarse) = (scores(&quantized), losses(&quantized));
        let scale = whole.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let apart = whole.iter().zip(&coarse).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max);
        assert!(apart > 0.0 && apart < 3e-2, "{apart}");
        let apart = of_whole.iter().zip(&of_coarse).map(|(a, b)| (a.0 - b.0).abs()).fold(0.0, f32::max);
        assert!(apart > 0.0 && apart < 5e-2, "{apart}");
        // The full pass and the cached one read the same weights.
        let full = FullSession::new(&quantized).feed(&text).unwrap();
        assert!(full.iter().zip(&coarse).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

#[test]
fn the_other_backend_reads_with_a_cache_too() {
    let model = Decoder::init(&small(), VOCAB, 4, &reference()).unwrap();
    let (mut cached, mut full) = (CachedSession::new(&model), FullSession::new(&model));
    for ids in [&[1_u32, 2, 3][..], &[4], &[5, 6]] {
        let (found, expected) = (cached.feed(ids).unwrap(), full.feed(ids).unwrap());
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    }
}

#[test]
fn generation_is_a_function_of_the_seed() {
    let model = Decoder::init(&ModelConfig { context_length: 40, ..small() }, VOCAB, 8, &Device::flex()).unwrap();
    let sampling = SamplingConfig { temperature: 1.0, top_p: 1.0, seed: 1, max_new_tokens: 30, ..SamplingConfig::default() };
    let run = |session: &mut dyn Session, sampling: &SamplingConfig| generate(session, &[1, 2, 3], 999, sampling, &mut |_| true).unwrap();
    let first = run(&mut CachedSession::new(&model), &sampling);
    assert_eq!(first, run(&mut CachedSession::new(&model), &sampling));
    assert_eq!(first.ids, run(&mut FullSession::new(&model), &sampling).ids);
    assert_ne!(first.ids, run(&mut CachedSession::new(&model), &SamplingConfig { seed: 2, ..sampling.clone() }).ids);
    assert_eq!((first.ids.len(), first.stopped), (30, StopReason::Length));
    assert!(first.log_probabilities.iter().all(|&p| p < 0.0 && p.is_finite()));

    let stop_at = first.ids[4];
    let n = first.ids.iter().position(|&id| id == stop_at).unwrap();
    let ended = generate(&mut CachedSession::new(&model), &[1, 2, 3], stop_at, &sampling, &mut |_| true).unwrap();
    assert_eq!((ended.ids.as_slice(), ended.stopped), (&first.ids[..n], StopReason::EndOfText));
    let called = generate(&mut CachedSession::new(&model), &[1, 2, 3], 999, &sampling, &mut |_| false).unwrap();
    assert_eq!((called.ids.len(), called.stopped), (1, StopReason::Caller));
    assert!(generate(&mut CachedSession::new(&model), &[], 999, &sampling, &mut |_| true).is_err());
}

#[test]
fn a_text_ends_with_the_context_and_a_prompt_fits_in_it() {
    let model = Decoder::init(&small(), VOCAB, 8, &Device::flex()).unwrap();
    let sampling = |max_new_tokens| SamplingConfig { max_new_tokens, ..SamplingConfig::default() };
    let run = |prompt: &[u32], max_new_tokens| {
        generate(&mut CachedSession::new(&model), prompt, 999, &sampling(max_new_tokens), &mut |_| true)
            .map(|text| (text.ids.len(), text.stopped))
    };
    // Of a context of 8, the ninth token is chosen and cannot be read.
    assert_eq!(run(&ids(1, 3), 30).unwrap(), (6, StopReason::Context));
    assert_eq!(run(&ids(1, 3), 6).unwrap(), (6, StopReason::Length));
    assert_eq!(run(&ids(1, 8), 30).unwrap(), (1, StopReason::Context));
    let too_long = run(&ids(1, 11), 1).unwrap_err();
    assert!(matches!(too_long, ModelError::PromptTooLong { prompt_tokens: 11, context_length: 8 }));
    assert_eq!(too_long.to_string(), "the prompt has 11 tokens and the model's context is 8: 3 too many");
    assert!(too_long.exit_class() == ExitClass::Usage && too_long.hint().unwrap().contains("model.context_length"));
    let prompts = [3, 9].map(|n| BatchPrompt { ids: ids(1, n), sampling: sampling(1) });
    let batch = generate_batch(&model, Precision::F32, &prompts, 999, &mut |_, _| panic!("nothing is generated"));
    assert!(matches!(batch, Err(ModelError::PromptTooLong { prompt_tokens: 9, .. })));
}

#[test]
fn a_prompt_of_many_samples_is_read_once_with_the_bits_of_each() {
    let config = ModelConfig { context_length: 64, ..small() };
    for (model, prompt) in [
        (Decoder::init(&config, VOCAB, 8, &Device::flex()).unwrap(), ids(1, 21)),
        (Decoder::init(&config, VOCAB, 8, &Device::flex()).unwrap().quantize().unwrap(), ids(2, 1)),
    ] {
        let sample = |seed: u64, ids: &[u32]| BatchPrompt {
            ids: ids.to_vec(),
            sampling: SamplingConfig { temperature: 1.0, seed, max_new_tokens: 20, ..SamplingConfig::default() },
        };
        // The fourth is another prompt, between two of the same.
        let prompts = [sample(1, &prompt), sample(2, &prompt), sample(3, &prompt), sample(1, &prompt[..1]), sample(4, &prompt)];
        for cache in [Precision::F32, Precision::Bf16] {
            let together = generate_batch(&model, cache, &prompts, 999, &mut |_, _| true).unwrap();
            for (found, prompt) in together.iter().zip(&prompts) {
                let mut session = CachedSession::with_cache(&model, cache);
                let alone = generate(&mut session, &prompt.ids, 999, &prompt.sampling, &mut |_| true).unwrap();
                assert_eq!(found, &alone);
            }
        }
    }
}

/// The other backend, which runs burn's own operations.
#[expect(deprecated, reason = "burn-ndarray is the reference that flex is compared with, for as long as it exists")]
fn reference() -> Device {
    Device::ndarray()
}

/// Checks that two sets of tensors are the same but for rounding: each difference is small beside the largest value of its tensor.
fn assert_agree(what: &str, found: &TensorMap, expected: &TensorMap, tolerance: f32) {
    assert!(found.keys().eq(expected.keys()), "{what}");
    for (path, expected) in expected {
        let largest = expected.values.iter().fold(1e-6_f32, |most, value| most.max(value.abs()));
        for (index, (found, expected)) in found[path].values.iter().zip(&expected.values).enumerate() {
            assert!((found - expected).abs() <= tolerance * largest, "{what}, {path}[{index}]: {found}, expected {expected}");
        }
    }
}

#[test]
fn fused_and_composite_operations_agree() {
    let (inputs, targets) = (ids(1, 12), ids(2, 12));
    let weights = [1.0, 1.0, 0.0, 1.0, 1.0, 0.5, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0];
    let segments = [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 2];
    for (n, config) in variants().into_iter().enumerate() {
        for batch in batches(&inputs, &segments) {
            // Flex runs codex-kernels, the other backend burn's own operations.
            let on = |device: Device| {
                let model = Decoder::init(&config, VOCAB, 3, &device.autodiff()).unwrap();
                let mut all = gradients(&model, &batch, &targets, &weights);
                let sum = model.loss(&batch, plain(&targets, &weights)).unwrap().sum;
                all.insert("loss".to_owned(), parameters::to_host("loss", sum).unwrap());
                all.insert("scores".to_owned(), parameters::to_host("scores", model.forward(&batch).unwrap()).unwrap());
                let nll = model.valid().token_scores(&batch, &targets).unwrap().into_iter().map(|(nll, _)| nll).collect::<Vec<f32>>();
                all.insert("nll".to_owned(), HostTensor::new(vec![12], nll).unwrap());
                all
            };
            assert_agree(&format!("variant {n}"), &on(Device::flex()), &on(reference()), 1e-5);
        }
    }
}

#[test]
fn the_loss_of_equal_scores_is_the_logarithm_of_the_vocabulary() {
    let model = Decoder::zeros(&small(), VOCAB, &Device::flex()).unwrap();
    let batch = windows(&[1, 2, 3], 1, None);
    let loss = |ids: &[u32], weights: &[f32]| model.loss(&batch, plain(ids, weights));
    let all = loss(&[0, 5, 12], &[1.0, 1.0, 1.0]).unwrap();
    assert!((f64::from(all.sum.into_scalar::<f32>()) - 3.0 * 13.0_f64.ln()).abs() < 1e-5);
    let masked = loss(&[0, 5, 12], &[0.0, 0.0, 0.0]).unwrap();
    assert_eq!((masked.sum.into_scalar::<f32>(), masked.count), (0.0, 0.0));
    assert!(matches!(loss(&[0, 5, 13], &[1.0; 3]), Err(ModelError::TokenOutOfRange { id: 13, position: 2, .. })));
    assert!(loss(&[0], &[1.0]).is_err());
    // Of equally likely tokens the first counts as the most likely.
    let scores = model.token_scores(&batch, &[0, 1, 2]).unwrap();
    assert_eq!(scores.iter().map(|(_, is_best)| *is_best).collect::<Vec<_>>(), [true, false, false]);
    assert!(model.token_scores(&batch, &[0, 1]).is_err() && model.token_scores(&batch, &[0, 1, 13]).is_err());
}

#[test]
fn smoothing_and_z_loss_follow_their_formulas() {
    let model = Decoder::init(&small(), VOCAB, 3, &Device::flex()).unwrap();
    let batch = windows(&[1, 2, 3], 1, None);
    let scores = parameters::to_host("scores", model.forward(&batch).unwrap()).unwrap().values;
    let (ids, weights, settings) = ([4, 5, 6], [1.0, 0.0, 0.5], LossSettings { label_smoothing: 0.2, z_loss: 0.01 });
    let expected: f64 = scores
        .chunks(VOCAB)
        .zip(ids)
        .zip(weights)
        .map(|((row, id), weight)| {
            let log_sum = row.iter().map(|&score| f64::from(score).exp()).sum::<f64>().ln();
            let mean = row.iter().map(|&score| log_sum - f64::from(score)).sum::<f64>() / VOCAB as f64;
            let plain = log_sum - f64::from(row[id as usize]);
            f64::from(weight) * (0.8 * plain + 0.2 * mean + 0.01 * log_sum * log_sum)
        })
        .sum();
    let found = model.loss(&batch, Targets { ids: &ids, weights: &weights, settings }).unwrap();
    assert!((f64::from(found.sum.into_scalar::<f32>()) - expected).abs() < 1e-5 * expected, "{expected}");
}

#[test]
fn wrong_tensors_are_named_before_anything_is_replaced() {
    let model = || Decoder::zeros(&small(), VOCAB, &Device::flex()).unwrap();
    let good = parameters::collect(&Decoder::init(&small(), VOCAB, 1, &Device::flex()).unwrap()).unwrap();
    assert_eq!(parameters::collect(&parameters::load(model(), &good).unwrap()).unwrap(), good);
    let told = |change: &dyn Fn(&mut TensorMap)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        let error = parameters::load(model(), &tensors).unwrap_err();
        assert_eq!(error.exit_class(), ExitClass::Integrity);
        assert!(error.hint().is_some());
        error.to_string()
    };
    assert_eq!(told(&|t| drop(t.remove("embedding"))), "tensor `embedding` is missing; the model expects it with shape [13, 12]");
    let extra = HostTensor { shape: vec![1], values: vec![0.0].into() };
    assert_eq!(told(&|t| drop(t.insert("x".into(), extra.clone()))), "tensor `x` of shape [1] belongs to no parameter of this model");
    assert_eq!(
        told(&|t| t.get_mut("embedding").unwrap().shape = vec![12, 13]),
        "tensor `embedding` has shape [12, 13]; the model expects [13, 12]"
    );
}

#[test]
fn unusable_input_is_an_error_and_not_a_panic() {
    let model = Decoder::zeros(&small(), VOCAB, &Device::flex()).unwrap();
    let class = |batch: WindowBatch<'_>| model.forward(&batch).unwrap_err().exit_class();
    assert_eq!(class(windows(&[], 1, None)), ExitClass::Data);
    assert_eq!(class(windows(&[1, 2, 3], 2, None)), ExitClass::Data);
    assert_eq!(class(windows(&[1, 2], 0, None)), ExitClass::Data);
    assert_eq!(class(windows(&[1, 99], 1, None)), ExitClass::Data);
    assert_eq!(class(windows(&[1; 9], 1, None)), ExitClass::Data);
    assert_eq!(class(windows(&[1, 2], 1, Some(&[0]))), ExitClass::Data);
    assert_eq!(Decoder::zeros(&small(), 0, &Device::flex()).unwrap_err().exit_class(), ExitClass::Usage);
    let bad = ModelConfig { n_heads: 5, ..small() };
    assert!(Decoder::init(&bad, VOCAB, 0, &Device::flex()).is_err());
}
