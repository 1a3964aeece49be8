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
mod generation;
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
            let at = |_: &str, shifted: TensorMap| {
                let model = Decoder::zeros(&config, VOCAB, &Device::flex()).unwrap();
                loss(&parameters::load(model, shifted).unwrap(), &batch, &targets, &weights)
            };
            assert_slopes(&format!("variant {n}"), &values, &analytic, Bounds { least: 0.1, error: 0.01 }, &at);
        }
    }
}

/// How near the slopes must be: the error, relative to slopes of at least `least` together.
#[derive(Clone, Copy)]
struct Bounds {
    least: f64,
    error: f64,
}

/// Along a drawn direction of each tensor, the analytic gradient is what the loss `at` two shifted values says; `at` is told which tensor moved.
fn assert_slopes(what: &str, values: &TensorMap, analytic: &TensorMap, bounds: Bounds, at: &dyn Fn(&str, TensorMap) -> f64) {
    for (path, tensor) in values {
        let mut stream = Stream::new(9, path, 0);
        let direction: Vec<f32> = tensor.values.iter().map(|_| stream.normal() as f32).collect();
        let length = direction.iter().map(|d| f64::from(d * d)).sum::<f64>().sqrt();
        let epsilon = 0.004;
        let moved = |sign: f64| {
            let mut shifted = values.clone();
            let step = (sign * epsilon / length) as f32;
            let pairs = shifted.get_mut(path).unwrap().values.iter_mut().zip(&direction);
            pairs.for_each(|(value, d)| *value += step * d);
            at(path, shifted)
        };
        let numeric = (moved(1.0) - moved(-1.0)) / (2.0 * epsilon);
        let along = analytic[path].values.iter().zip(&direction).map(|(g, d)| f64::from(g * d)).sum::<f64>() / length;
        let error = (numeric - along).abs() / (numeric.abs() + along.abs()).max(bounds.least);
        assert!(error < bounds.error, "{what}, {path}: analytic {along}, numeric {numeric}");
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
    assert_eq!(parameters::collect(&parameters::load(model(), good.clone()).unwrap()).unwrap(), good);
    let told = |change: &dyn Fn(&mut TensorMap)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        let error = parameters::load(model(), tensors.clone()).unwrap_err();
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
