//! Activations that are computed again: the same gradients, bit for bit, block by block.

use burn::tensor::Device;
use codex_model::{
    Activation, AdapterConfig, AdapterKind, Decoder, DropoutDraws, LossSettings, ModelConfig, PositionKind, Precision, Targets, WindowBatch,
};
use codex_train::gradients::GradientSum;
use codex_train::{Silent, StopSignal};

use crate::setup::{Bench, StopAt, weights};

const TIME: usize = 12;

fn ids(salt: u32) -> Vec<u32> {
    (0..2 * TIME as u32).map(|i| (i * 7 + salt * i * i) % 50).collect()
}

/// The bits of each gradient by its path.
type Bits = Vec<(String, Vec<u32>)>;

/// The loss and each gradient's bits of two passes, in one way and the other.
fn both(model: &Decoder, dropout: f64) -> [(f64, Bits); 2] {
    let segments: Vec<u32> = (0..2 * TIME as u32).map(|i| i % TIME as u32 / 5).collect();
    let weights: Vec<f32> = (0..2 * TIME).map(|i| f32::from(u8::from(i % 5 != 0))).collect();
    [false, true].map(|is_by_block| {
        let (mut gradients, mut loss) = (GradientSum::default(), 0.0);
        for pass in 0..2 {
            let (inputs, targets) = (ids(pass), ids(pass + 5));
            let draws = DropoutDraws { seed: 4, step: 1, first_window: 2 * u64::from(pass), probability: dropout };
            let windows = WindowBatch { n_rows: 2, inputs: &inputs, segments: Some(&segments), dropout: Some(draws) };
            let targets = Targets { ids: &targets, weights: &weights, settings: LossSettings::default() };
            let part = if is_by_block {
                gradients.add_by_block(model, &windows, targets).unwrap()
            } else {
                let part = model.loss(&windows, targets).unwrap();
                gradients.add(model, &mut part.sum.backward());
                part
            };
            loss += f64::from(codex_model::parameters::to_host("loss", part.sum.detach()).unwrap().values[0]);
        }
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
        (loss, gradients.to_host().unwrap().into_iter().map(|(path, values)| (path, bits(values))).collect())
    })
}

#[test]
fn every_gradient_is_the_same_to_the_bit() {
    let plain = ModelConfig { d_model: 16, n_layers: 3, n_heads: 4, n_kv_heads: 2, context_length: TIME, ..ModelConfig::default() };
    let gated = ModelConfig { activation: Activation::Swiglu, tie_embeddings: false, ..plain.clone() };
    let learned = ModelConfig { positions: PositionKind::Learned, n_layers: 1, ..plain.clone() };
    let adapter = |kind, quantize_base, modules: &[&str]| AdapterConfig {
        kind,
        rank: 2,
        dropout: 0.1,
        quantize_base,
        target_modules: modules.iter().map(|&name| name.to_owned()).collect(),
        ..AdapterConfig::default()
    };
    let adapters = [
        AdapterConfig::default(),
        adapter(AdapterKind::Lora, false, &["q_proj", "v_proj"]),
        adapter(AdapterKind::Lora, true, &["all-linear"]),
        adapter(AdapterKind::Dora, false, &["all-linear"]),
    ];
    let device = Device::flex().autodiff();
    for config in [plain, gated, learned] {
        for adapter in &adapters {
            for precision in [Precision::F32, Precision::Bf16] {
                let mut model = Decoder::init(&config, 50, 3, &device).unwrap();
                if adapter.quantize_base {
                    model = model.quantize().unwrap();
                }
                let model = model.with_adapters(adapter, 5, &device).unwrap().with_precision(precision);
                for dropout in [0.0, 0.2] {
                    let [(loss, at_once), (again, by_block)] = both(&model, dropout);
                    assert_eq!(loss.to_bits(), again.to_bits(), "{config:?} {adapter:?} {precision:?}");
                    let paths = |all: &[(String, Vec<u32>)]| all.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
                    assert_eq!(paths(&at_once), paths(&by_block));
                    assert!(!at_once.is_empty());
                    for ((path, a), (_, b)) in at_once.iter().zip(&by_block) {
                        assert_eq!(a, b, "{path} {adapter:?} {precision:?} {dropout}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_run_may_go_on_with_it_or_without() {
    let configure = |train: &mut codex_train::TrainConfig| (train.steps, train.dropout, train.accumulation) = (12, 0.1, 2);
    let straight = Bench::new(configure);
    let expected = straight.run(&mut Silent, &StopSignal::new()).unwrap();
    let plain = Bench::new(configure);
    let again = plain.changed(|train| train.recompute_activations = true);
    assert_eq!(plain.plan().key().unwrap().digest().unwrap(), again.plan().key().unwrap().digest().unwrap());
    for (bench, at) in [(&again, 4), (&plain, 7)] {
        let stop = StopSignal::new();
        bench.run(&mut StopAt(at, stop.clone()), &stop).unwrap();
    }
    let outcome = again.run(&mut Silent, &StopSignal::new()).unwrap();
    assert_eq!(outcome.resumed_from, Some(7));
    assert_eq!((weights(&outcome.model), outcome.state), (weights(&expected.model), expected.state));
    assert_eq!(again.losses(), straight.losses());
}
