//! Training on prompts and chats: only what is to be said moves the weights, however rows are put into windows, and a resume is exact.

use std::collections::BTreeMap;

use burn::tensor::Device;
use codex_data::{HostBatch, Split, TokenSplit, WindowLoader};
use codex_model::{AdapterConfig, AdapterKind, Decoder, LossSettings, ModelConfig, PositionKind, Targets, WindowBatch, parameters};
use codex_train::gradients::GradientSum;
use codex_train::optimizer::Optimizer;
use codex_train::step::{Learner, NoHooks, StepSource};
use codex_train::{Silent, StopSignal, TrainConfig};

use crate::setup::{Bench, StopAt, apart, weights};

fn lora() -> AdapterConfig {
    AdapterConfig { kind: AdapterKind::Lora, rank: 4, ..AdapterConfig::default() }
}

fn bench(adapter: AdapterConfig, configure: impl Fn(&mut TrainConfig)) -> Bench {
    let mut bench = Bench::new(|train| {
        (train.steps, train.batch_size) = (12, 2);
        configure(train);
    });
    bench.conversations = true;
    bench.adapter = adapter;
    bench
}

/// The loss per target and the gradient.
fn measured(model: &Decoder, batch: &HostBatch) -> (f64, BTreeMap<String, Vec<f32>>) {
    let windows = WindowBatch { n_rows: batch.n_rows, inputs: &batch.inputs, segments: Some(&batch.segments), dropout: None };
    let part = model.loss(&windows, Targets { ids: &batch.targets, weights: &batch.weights, settings: LossSettings::default() }).unwrap();
    let sum = f64::from(parameters::to_host("loss", part.sum.clone().detach()).unwrap().values[0]);
    let mut gradients = GradientSum::default();
    gradients.add(model, &mut part.sum.backward());
    gradients.scale_and_clip(1.0 / part.count, 0.0).unwrap();
    (sum / part.count, gradients.to_host().unwrap())
}

fn bits(values: &BTreeMap<String, Vec<f32>>) -> Vec<(String, Vec<u32>)> {
    values.iter().map(|(path, values)| (path.clone(), values.iter().map(|value| value.to_bits()).collect())).collect()
}

#[test]
fn what_is_not_trained_has_no_part_in_loss_or_gradient() {
    for adapter in [AdapterConfig::default(), lora()] {
        let plan = bench(adapter, |_| {}).plan();
        let model = plan.network(&Device::flex().autodiff()).unwrap();
        let batch = plan.train_loader().unwrap().batch(0, 4).unwrap();
        let n_trained = batch.n_targets() as usize;
        assert!(n_trained > 50 && 10 * n_trained < 9 * batch.targets.len(), "{n_trained} of {}", batch.targets.len());
        let (loss, gradient) = measured(&model, &batch);
        assert!(gradient.values().flatten().any(|value| *value != 0.0));
        let mut other = batch.clone();
        for (i, (target, weight)) in other.targets.iter_mut().zip(&batch.weights).enumerate() {
            if *weight == 0.0 {
                *target = (*target + 1 + i as u32) % plan.vocab_size() as u32;
            }
        }
        assert_ne!(other.targets, batch.targets);
        let (same_loss, same_gradient) = measured(&model, &other);
        assert_eq!((loss.to_bits(), bits(&gradient)), (same_loss.to_bits(), bits(&same_gradient)));
        // The test can fail: a target that counts changes both.
        let at = batch.weights.iter().position(|weight| *weight > 0.0).unwrap();
        other.targets[at] = (other.targets[at] + 1) % plan.vocab_size() as u32;
        let (other_loss, other_gradient) = measured(&model, &other);
        assert!(other_loss.to_bits() != loss.to_bits() && bits(&other_gradient) != bits(&gradient));
    }
}

#[test]
fn the_step_takes_the_mean_over_trained_targets() {
    let plan = bench(AdapterConfig::default(), |train| train.accumulation = 2).plan();
    let device = Device::flex();
    let model = plan.network(&device.clone().autodiff()).unwrap();
    let loader = plan.train_loader().unwrap();
    let (expected, _) = measured(&model, &loader.batch(0, 4).unwrap());
    let trained = loader.batch(0, 4).unwrap().n_targets();
    let optimizer = Optimizer::new(&model, &TrainConfig::default(), &device).unwrap();
    let source = StepSource { seed: plan.seed, config: &plan.train, loader: &loader };
    let (_, outcome) = Learner { model, optimizer }.step(&source, 0, 1, &mut NoHooks).unwrap();
    assert_eq!(outcome.tokens, trained);
    assert!((outcome.loss - expected).abs() < 1e-5, "{} and {expected}", outcome.loss);
}

/// The documents of a window, each in a row of its own.
fn apart_rows(split: &TokenSplit, batch: &HostBatch, context_length: usize) -> HostBatch {
    let mut rows = HostBatch { context_length, ..HostBatch::default() };
    for range in &batch.documents {
        for idx in range.first..range.end {
            let record = split.document(idx).unwrap().unwrap();
            let len = (record.end - record.start) as usize;
            let (ids, trained) = (split.tokens(record.start, len).unwrap(), split.trained(record.start, len).unwrap().unwrap());
            rows.n_rows += 1;
            let end = rows.n_rows * context_length;
            rows.inputs.extend(&ids[..len - 1]);
            rows.inputs.resize(end, 1);
            rows.targets.extend(&ids[1..]);
            rows.targets.resize(end, 1);
            rows.weights.extend(trained[1..].iter().map(|token| f32::from(*token)));
            rows.weights.resize(end, 0.0);
            rows.segments.resize(end, 0);
        }
    }
    rows
}

#[test]
fn rows_in_one_window_make_the_gradient_of_rows_in_windows_of_their_own() {
    let data = bench(AdapterConfig::default(), |_| {}).plan().data;
    let split = data.train_splits()[0];
    let context_length = 1024;
    for positions in [PositionKind::Rotary, PositionKind::Learned] {
        let config = ModelConfig {
            d_model: 16,
            n_layers: 2,
            n_heads: 2,
            n_kv_heads: 1,
            init_std: 0.2,
            context_length,
            positions,
            ..ModelConfig::default()
        };
        let model = Decoder::init(&config, 258, 3, &Device::flex().autodiff()).unwrap();
        let loader = WindowLoader::new(split, context_length, 0, false, false).unwrap();
        // Windows of chats and windows of prompts.
        for window in [0, loader.windows_per_epoch() / 2] {
            let packed = loader.batch(window, 2).unwrap();
            let alone = apart_rows(split, &packed, context_length);
            assert!(alone.n_rows > packed.n_rows && alone.n_targets() == packed.n_targets(), "{} rows", alone.n_rows);
            let ((loss, gradient), (loss_alone, gradient_alone)) = (measured(&model, &packed), measured(&model, &alone));
            assert!((loss - loss_alone).abs() < 1e-5, "{loss} and {loss_alone}");
            let largest = gradient.values().flatten().fold(0.0_f32, |most, value| most.max(value.abs()));
            let pairs = gradient.iter().flat_map(|(path, values)| values.iter().zip(&gradient_alone[path]));
            let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest > 1e-2 && difference < 1e-5, "{difference} of {largest}");
            // The test can fail: without segments a row sees those before it.
            let mixed = HostBatch { segments: vec![0; packed.segments.len()], ..packed };
            let mixed = measured(&model, &mixed).1;
            let pairs = gradient.iter().flat_map(|(path, values)| values.iter().zip(&mixed[path]));
            assert!(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) > 1e-4);
        }
    }
}

#[test]
fn micro_batches_make_the_step_of_the_whole_batch() {
    let run = |batch_size, accumulation| {
        let bench =
            bench(AdapterConfig::default(), |train| (train.batch_size, train.accumulation, train.steps) = (batch_size, accumulation, 3));
        let outcome = bench.run(&mut Silent, &StopSignal::new()).unwrap();
        (weights(&outcome.model), outcome.state.tokens)
    };
    let ((whole, tokens), (parts, same)) = (run(4, 1), run(1, 4));
    assert_eq!(tokens, same);
    assert!(10 * tokens < 9 * 3 * 4 * 384, "{tokens} targets count");
    assert!(apart(&whole, &parts) < 1e-4);
}

#[test]
fn a_resume_is_exact_and_the_validation_counts_answers_only() {
    for adapter in [AdapterConfig::default(), lora()] {
        let configure = |train: &mut TrainConfig| (train.accumulation, train.dropout) = (2, 0.1);
        let straight = bench(adapter.clone(), configure);
        let expected = straight.run(&mut Silent, &StopSignal::new()).unwrap();
        let evaluated = expected.state.last_evaluation.unwrap().n_tokens;
        let plan = straight.plan();
        assert_eq!(evaluated, plan.data.validation_loaders(&plan.windows()).unwrap()[0].1.batch(0, 8).unwrap().n_targets());
        assert!(plan.data.splits(Split::Validation)[0].is_masked() && !plan.cutting.isolate_documents);
        let stopped = bench(adapter, configure);
        for at in [1, 7] {
            let stop = StopSignal::new();
            stopped.run(&mut StopAt(at, stop.clone()), &stop).unwrap();
        }
        let outcome = stopped.run(&mut Silent, &StopSignal::new()).unwrap();
        assert_eq!(outcome.resumed_from, Some(7));
        assert_eq!(weights(&outcome.model), weights(&expected.model));
        assert_eq!(outcome.state, expected.state);
        assert_eq!(stopped.losses(), straight.losses());
    }
}

#[test]
fn it_learns_to_answer() {
    let outcome =
        bench(AdapterConfig::default(), |train| (train.steps, train.batch_size) = (40, 4)).run(&mut Silent, &StopSignal::new()).unwrap();
    let (first, last) = (outcome.state.first_evaluation.unwrap().loss, outcome.state.last_evaluation.unwrap().loss);
    assert!(last < 0.8 * first, "{first} to {last}");
}
