//! Adapters: they begin as nothing, their gradients are right, they alone are trained, and merged they are what they were.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::Module;
use burn::tensor::Device;
use codex_core::{HostTensor, Stream, TensorMap};
use codex_model::{
    Activation, AdapterConfig, AdapterKind, AdapterPlan, Decoder, DropoutDraws, FullSession, ModelConfig, ModelError, Session, WindowBatch,
    parameters,
};

use crate::{Bounds, VOCAB, assert_slopes, gradients, ids, loss, variants, windows};

fn lora() -> AdapterConfig {
    AdapterConfig { kind: AdapterKind::Lora, rank: 3, alpha: 4.0, ..AdapterConfig::default() }
}

fn dora() -> AdapterConfig {
    AdapterConfig { kind: AdapterKind::Dora, ..lora() }
}

fn model(config: &ModelConfig, device: &Device) -> Decoder {
    Decoder::init(config, VOCAB, 3, device).unwrap()
}

/// The same trained tensors with drawn numbers instead of the zeros that adapters begin with.
fn drawn(trained: &TensorMap) -> TensorMap {
    let mut drawn = trained.clone();
    for (path, tensor) in &mut drawn {
        let mut stream = Stream::new(4, path, 0);
        tensor.values.iter_mut().for_each(|value| *value = 0.3 * stream.normal() as f32);
    }
    drawn
}

#[test]
fn a_fresh_adapter_changes_nothing_and_a_drawn_one_does() {
    for (config, lora) in variants().into_iter().flat_map(|config| [(config.clone(), lora()), (config, dora())]) {
        let lora = || lora.clone();
        let device = Device::flex();
        let text = ids(3, 8);
        let scores = |model: &Decoder| FullSession::new(model).feed(&text).unwrap();
        let bare = model(&config, &device);
        let adapted = bare.clone().with_adapters(&lora(), 5, &device).unwrap();
        assert_eq!(scores(&bare), scores(&adapted));
        let trained = parameters::collect_trained(&adapted).unwrap();
        assert_eq!(trained.keys().collect::<Vec<_>>(), adapted.trained_shapes().keys().collect::<Vec<_>>());
        let again = model(&config, &device).with_adapters(&lora(), 5, &device).unwrap();
        assert_eq!(trained, parameters::collect_trained(&again).unwrap(), "a function of seed and path");
        let other = bare.clone().with_adapters(&lora(), 6, &device).unwrap();
        assert_ne!(trained, parameters::collect_trained(&other).unwrap());
        let drawn = parameters::load_trained(adapted, &drawn(&trained)).unwrap();
        let (unmerged, bare) = (scores(&drawn), scores(&bare));
        assert_eq!(scores(&drawn.clone().settle().unwrap()), unmerged, "what is computed once is what was computed each time");
        assert!(unmerged.iter().zip(&bare).any(|(a, b)| (a - b).abs() > 1e-2));
        // Merged it is the same function, without adapters.
        let merged = drawn.merge().unwrap();
        assert!(merged.adapters().is_empty());
        let scale = unmerged.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let apart = scores(&merged).iter().zip(&unmerged).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5 * scale, "{apart} of {scale}");
        assert_eq!(parameters::collect(&merged).unwrap().len(), parameters::shapes(&config, VOCAB).len());
    }
}

#[test]
fn gradients_of_adapters_agree_with_finite_differences_and_nothing_else_has_one() {
    let (inputs, targets, weights) = (ids(1, 12), ids(2, 12), [1.0; 12]);
    let draws = DropoutDraws { seed: 1, step: 2, first_window: 5, probability: 0.1 };
    for config in variants() {
        let adapter = AdapterConfig { dropout: 0.2, also_train: BTreeSet::from(["norms".to_owned()]), ..lora() };
        let device = Device::flex();
        let tracked = device.clone().autodiff();
        for dropout in [None, Some(draws)] {
            let batch = WindowBatch { dropout, ..windows(&inputs, 2, None) };
            let fresh = model(&config, &tracked).with_adapters(&adapter, 5, &tracked).unwrap();
            let values = drawn(&parameters::collect_trained(&fresh).unwrap());
            let adapted = parameters::load_trained(fresh, &values).unwrap();
            let analytic = gradients(&adapted, &batch, &targets, &weights);
            assert_eq!(analytic.keys().collect::<Vec<_>>(), values.keys().collect::<Vec<_>>());
            let at = |_: &str, shifted: TensorMap| {
                let model = model(&config, &device).with_adapters(&adapter, 5, &device).unwrap();
                loss(&parameters::load_trained(model, &shifted).unwrap(), &batch, &targets, &weights)
            };
            assert_slopes("adapters", &values, &analytic, Bounds { least: 0.3, error: 0.015 }, &at);
        }
    }
}

/// The gradients of lengths by finite differences; those of the matrices with the lengths that columns have held still, as the paper takes them.
#[test]
fn gradients_of_trained_lengths_agree_with_finite_differences() {
    let (inputs, targets, weights) = (ids(1, 12), ids(2, 12), [1.0; 12]);
    for config in variants() {
        let (device, adapter) = (Device::flex(), dora());
        let tracked = device.clone().autodiff();
        let batch = windows(&inputs, 2, None);
        let fresh = model(&config, &tracked).with_adapters(&adapter, 5, &tracked).unwrap();
        let mut values = drawn(&parameters::collect_trained(&fresh).unwrap());
        // Lengths are positive, and not far from what they are.
        for (path, tensor) in values.iter_mut().filter(|(path, _)| path.ends_with("magnitude")) {
            let own = &parameters::collect_trained(&fresh).unwrap()[path];
            tensor.values.iter_mut().zip(own.values.iter()).for_each(|(value, own)| *value = own * (1.0 + 0.3 * *value));
        }
        let lengths = |values: &TensorMap| lengths_of(&model(&config, &device), &adapter, values);
        let adapted = parameters::load_trained(fresh, &values).unwrap();
        let analytic = gradients(&adapted, &batch, &targets, &weights);
        assert!(values.keys().any(|path| path.ends_with("magnitude")));
        let still = lengths(&values);
        let at = |path: &str, mut shifted: TensorMap| {
            if !path.ends_with("magnitude") {
                let now = lengths(&shifted);
                for (path, still) in &still {
                    let pairs = still.iter().zip(&now[path]);
                    let magnitude = shifted.get_mut(path).unwrap().values.iter_mut().zip(pairs);
                    magnitude.for_each(|(value, (still, now))| *value = (f64::from(*value) * now / still) as f32);
                }
            }
            let model = model(&config, &device).with_adapters(&adapter, 5, &device).unwrap();
            loss(&parameters::load_trained(model, &shifted).unwrap(), &batch, &targets, &weights)
        };
        assert_slopes("lengths", &values, &analytic, Bounds { least: 0.3, error: 0.015 }, &at);
    }
}

/// The length of each column of the weights with the products of adapters in them, by the path of the trained ones.
fn lengths_of(base: &Decoder, adapter: &AdapterConfig, values: &TensorMap) -> BTreeMap<String, Vec<f64>> {
    let weights = parameters::collect(base).unwrap();
    let of_plan = |plan: &AdapterPlan| {
        let (path, columns) = (plan.path(), plan.site.columns.clone());
        let (a, b, w) = (&values[&format!("{path}.a")], &values[&format!("{path}.b")], &weights[&format!("{}.weight", plan.site.layer)]);
        let at = |tensor: &HostTensor, row: usize, column: usize| f64::from(tensor.values[row * tensor.shape[1] + column]);
        let length = |column: usize| {
            let product = |row: usize| (0..plan.rank).map(|r| at(a, row, r) * at(b, r, column - columns.start)).sum::<f64>();
            (0..plan.site.inputs).map(|row| (at(w, row, column) + plan.scale * product(row)).powi(2)).sum::<f64>().sqrt()
        };
        (format!("{path}.magnitude"), columns.clone().map(length).collect())
    };
    adapter.adapters(base.config()).unwrap().iter().map(of_plan).collect()
}

#[test]
fn trained_lengths_have_the_same_bits_at_any_number_of_threads() {
    let (inputs, targets, weights) = (ids(1, 40), ids(2, 40), [1.0; 40]);
    let of_threads = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| {
            let device = Device::flex().autodiff();
            let fresh = model(&variants()[1], &device).with_adapters(&dora(), 5, &device).unwrap();
            let values = drawn(&parameters::collect_trained(&fresh).unwrap());
            gradients(&parameters::load_trained(fresh, &values).unwrap(), &windows(&inputs, 5, None), &targets, &weights)
        })
    };
    let one = of_threads(1);
    for n in [2, 3, 4] {
        assert_eq!(one, of_threads(n), "{n} threads");
    }
}

#[test]
fn an_adapter_over_8_bit_weights_is_one_over_the_rounded_weights() {
    let config = &variants()[0];
    let device = Device::flex();
    let (text, adapter) = (ids(3, 8), lora());
    let whole = model(config, &device).with_adapters(&adapter, 5, &device).unwrap();
    let values = drawn(&parameters::collect_trained(&whole).unwrap());
    let scores = |model: Decoder| FullSession::new(&parameters::load_trained(model, &values).unwrap()).feed(&text).unwrap();
    let coarse = model(config, &device).quantize().unwrap().with_adapters(&adapter, 5, &device).unwrap();
    let (whole, coarse) = (scores(whole), scores(coarse));
    let scale = whole.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let apart = whole.iter().zip(&coarse).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max);
    assert!(apart > 0.0 && apart < 3e-2, "{apart}");
}

#[test]
fn the_matrices_of_a_weight_are_its_heads_parts_and_halves() {
    let config = ModelConfig { d_model: 16, n_heads: 4, n_kv_heads: 2, activation: Activation::Swiglu, ..ModelConfig::default() };
    let network = model(&config, &Device::flex());
    let of = |path: &str, columns| network.matrices_of(path, columns);
    assert_eq!(of("blocks.0.attention.qkv.weight", 32), [0..16, 16..24, 24..32]);
    assert_eq!(of("blocks.1.feed_forward.up.weight", 90), [0..45, 45..90]);
    let whole = |columns: usize| vec![std::ops::Range { start: 0, end: columns }];
    assert_eq!((of("blocks.0.attention.output.weight", 16), of("blocks.0.attention.qkv.adapters.0.b", 16)), (whole(16), whole(16)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let (device, config) = (Device::flex(), &variants()[0]);
    let adapted = model(config, &device).with_adapters(&lora(), 5, &device).unwrap();
    assert!(matches!(adapted.clone().with_adapters(&lora(), 5, &device), Err(ModelError::BadInput { .. })));
    let unknown = AdapterConfig { target_modules: vec!["query".to_owned()], ..lora() };
    let refused = model(config, &device).with_adapters(&unknown, 5, &device);
    assert!(matches!(refused, Err(ModelError::Config { key, .. }) if key == "adapter.target_modules"));
    let mut values = parameters::collect_trained(&adapted).unwrap();
    let (path, tensor) = values.pop_first().unwrap();
    assert!(matches!(parameters::load_trained(adapted.clone(), &values), Err(ModelError::MissingTensor { .. })));
    values.insert(path, tensor.clone());
    values.insert("embedding".to_owned(), tensor);
    assert!(matches!(parameters::load_trained(adapted.clone(), &values), Err(ModelError::LeftOverTensor { .. })));
    let none = model(config, &device).with_adapters(&AdapterConfig::default(), 5, &device).unwrap();
    assert_eq!(none.trained_shapes(), parameters::shapes(config, VOCAB));
    assert_eq!(none.num_params(), model(config, &device).num_params());
    let coarse = model(config, &device).quantize().unwrap().with_adapters(&dora(), 5, &device);
    assert!(coarse.unwrap_err().to_string().contains("weights of 8 bits have no trained lengths"));
}
