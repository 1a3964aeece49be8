//! Optimizers, the mean of weights, skipped steps, and what ends a run.

use std::collections::BTreeMap;

use burn::tensor::Device;
use codex_checkpoint::OnFailure;
use codex_core::{ExitClass, Failure};
use codex_model::{Decoder, LossSettings, ModelConfig, Precision, Targets, WindowBatch};
use codex_track::RunStatus;
use codex_train::gradients::GradientSum;
use codex_train::{
    Ending, EvaluationReport, Observer, OptimizerKind, PatienceMetric, Silent, StepReport, StopSignal, TrainConfig, TrainError,
};

use crate::setup::{Bench, StopAt, apart, weights};

/// Every optimizer with a learning rate that suits it.
const OPTIMIZERS: [(OptimizerKind, f64); 5] = [
    (OptimizerKind::Adamw, 1e-2),
    (OptimizerKind::Sgd, 5e-2),
    (OptimizerKind::Lion, 6e-3),
    (OptimizerKind::Adafactor, 1e-1),
    (OptimizerKind::Muon, 1e-2),
];

#[test]
fn every_optimizer_learns_and_resumes_to_the_same_bits() {
    for (optimizer, learning_rate) in OPTIMIZERS {
        for ema_decay in [0.0, 0.8] {
            let configure = move |train: &mut TrainConfig| {
                (train.optimizer, train.learning_rate, train.ema_decay) = (optimizer, learning_rate, ema_decay);
                train.weight_decay_pattern = BTreeMap::from([("embedding".to_owned(), 0.0)]);
                train.learning_rate_pattern = BTreeMap::from([("embedding".to_owned(), 0.5)]);
            };
            let straight = Bench::new(configure);
            let expected = straight.run(&mut Silent, &StopSignal::new()).unwrap();
            let (first, last) = (expected.state.first_evaluation.unwrap().loss, expected.state.last_evaluation.unwrap().loss);
            assert!(last < 0.8 * first, "{optimizer:?}: {first} to {last}");
            let bench = Bench::new(configure);
            for at in [3, 17] {
                let stop = StopSignal::new();
                bench.run(&mut StopAt(at, stop.clone()), &stop).unwrap();
            }
            let outcome = bench.run(&mut Silent, &StopSignal::new()).unwrap();
            assert_eq!(outcome.resumed_from, Some(17));
            assert_eq!(weights(&outcome.model), weights(&expected.model), "{optimizer:?}");
            assert_eq!((outcome.state, bench.losses()), (expected.state, straight.losses()));
        }
    }
}

#[test]
fn optimizers_and_patterns_make_a_difference() {
    let after = |configure: &dyn Fn(&mut TrainConfig)| {
        let bench = Bench::new(|train| {
            train.steps = 6;
            configure(train);
        });
        weights(&bench.run(&mut Silent, &StopSignal::new()).unwrap().model)
    };
    let plain = after(&|_| {});
    for (optimizer, _) in OPTIMIZERS.into_iter().skip(1) {
        assert!(apart(&plain, &after(&|train| train.optimizer = optimizer)) > 1e-4, "{optimizer:?}");
    }
    let pattern = BTreeMap::from([("embedding".to_owned(), 0.0)]);
    let still = after(&|train| train.learning_rate_pattern = pattern.clone());
    let start = weights(&Bench::new(|_| {}).plan().network(&Device::flex().autodiff()).unwrap());
    assert_eq!(still["embedding"], start["embedding"], "a factor of 0 trains nothing");
    assert_ne!(still["final_norm.weight"], start["final_norm.weight"]);
}

#[test]
fn a_pattern_that_names_nothing_is_an_error() {
    let bench = Bench::new(|train| train.weight_decay_pattern = BTreeMap::from([("wte".to_owned(), 0.0)]));
    let error = bench.run(&mut Silent, &StopSignal::new()).unwrap_err();
    assert!(error.to_string().contains("weight_decay_pattern") && error.to_string().contains("`wte`"), "{error}");
}

#[test]
fn the_mean_of_weights_is_what_is_handed_on() {
    let run = |steps, ema_decay| {
        let bench = Bench::new(|train| {
            (train.steps, train.ema_decay, train.warmup_steps) = (steps, ema_decay, 0);
            train.schedule = codex_train::Schedule::Constant;
        });
        weights(&bench.run(&mut Silent, &StopSignal::new()).unwrap().model)
    };
    let start = weights(&Bench::new(|_| {}).plan().network(&Device::flex().autodiff()).unwrap());
    let (one, two, mean) = (run(1, 0.0), run(2, 0.0), run(2, 0.75));
    for (path, mean) in &mean {
        for (i, mean) in mean.values.iter().enumerate() {
            let of = |tensors: &codex_core::TensorMap| tensors[path].values[i];
            let expected = 0.75 * (0.75 * of(&start) + 0.25 * of(&one)) + 0.25 * of(&two);
            assert!((mean - expected).abs() < 1e-6, "{path}[{i}]: {mean} and {expected}");
        }
    }
}

#[test]
fn tokens_and_epochs_end_a_run_with_an_evaluation() {
    let of_tokens = Bench::new(|train| train.max_tokens = 64 * 13);
    let outcome = of_tokens.run(&mut Silent, &StopSignal::new()).unwrap();
    assert_eq!((outcome.ending, outcome.state.step, outcome.state.last_evaluation_step), (Ending::Limit, 13, Some(13)));
    assert_eq!((of_tokens.record().status, of_tokens.record().step), (RunStatus::Finished, 13));
    let of_epochs = Bench::new(|train| (train.steps, train.max_epochs) = (1000, 1.5));
    let outcome = of_epochs.run(&mut Silent, &StopSignal::new()).unwrap();
    let windows = of_epochs.plan().train_loader().unwrap().windows_per_epoch() as f64;
    assert_eq!(outcome.ending, Ending::Limit);
    assert_eq!(outcome.state.step, (1.5 * windows / 4.0).ceil() as u64);
}

#[test]
fn time_that_is_over_saves_and_the_run_goes_on_later() {
    let straight = Bench::new(|_| {});
    let expected = straight.run(&mut Silent, &StopSignal::new()).unwrap();
    // The clock moves by ten milliseconds each time it is read.
    let mut bench = Bench::new(|_| {});
    bench.max_seconds = 1;
    let mut turns = 0;
    let outcome = loop {
        let outcome = bench.run(&mut Silent, &StopSignal::new()).unwrap();
        turns += 1;
        if outcome.ending != Ending::Time {
            break outcome;
        }
        assert_eq!((bench.record().status, bench.record().step), (RunStatus::Interrupted, outcome.state.step));
    };
    assert!(turns > 2, "{turns}");
    assert_eq!((outcome.ending, weights(&outcome.model)), (Ending::Finished, weights(&expected.model)));
}

#[test]
fn a_save_that_is_asked_for_is_made_and_training_goes_on() {
    struct SaveAt(u64, StopSignal, Vec<u64>);
    impl Observer for SaveAt {
        fn step(&mut self, report: &StepReport) {
            if report.step == self.0 {
                self.1.request_save();
            }
        }
        fn saved(&mut self, step: u64, _path: &std::path::Path) {
            self.2.push(step);
        }
    }
    let (bench, stop) = (Bench::new(|_| {}), StopSignal::new());
    let mut observer = SaveAt(7, stop.clone(), Vec::new());
    let outcome = bench.run(&mut observer, &stop).unwrap();
    assert_eq!(outcome.ending, Ending::Finished);
    assert!(observer.2.contains(&7) && observer.2.contains(&40), "{:?}", observer.2);
}

#[test]
fn steps_that_stand_out_are_skipped_and_told() {
    #[derive(Default)]
    struct Warnings(Vec<String>);
    impl Observer for Warnings {
        fn warning(&mut self, message: &str) {
            self.0.push(message.to_owned());
        }
    }
    // Where nothing is learnt, losses lie about their mean, and one deviation is nothing rare.
    let configure = |train: &mut TrainConfig| (train.spike_deviations, train.max_spikes, train.learning_rate) = (1.0, 100, 1e-6);
    let (straight, mut warnings) = (Bench::new(configure), Warnings::default());
    let expected = straight.run(&mut warnings, &StopSignal::new()).unwrap();
    let n_skipped = expected.state.spikes.skipped;
    assert!(n_skipped > 0 && warnings.0.len() as u64 == n_skipped, "{n_skipped}: {:?}", warnings.0);
    assert!(warnings.0[0].contains("was skipped") && warnings.0[0].contains("builtin:rules"), "{}", warnings.0[0]);
    let bench = Bench::new(configure);
    for at in [22, 31] {
        let stop = StopSignal::new();
        bench.run(&mut StopAt(at, stop.clone()), &stop).unwrap();
    }
    let outcome = bench.run(&mut Silent, &StopSignal::new()).unwrap();
    assert_eq!((weights(&outcome.model), outcome.state), (weights(&expected.model), expected.state));
}

#[test]
fn too_many_steps_that_stand_out_end_the_run_with_its_state_saved() {
    let bench = Bench::new(|train| (train.steps, train.spike_deviations, train.max_spikes, train.learning_rate) = (400, 1e-9, 2, 1e-6));
    let error = bench.run(&mut Silent, &StopSignal::new()).unwrap_err();
    let TrainError::Spikes { step, in_a_row, ref documents } = error else { panic!("{error}") };
    assert_eq!((in_a_row, error.exit_class()), (2, ExitClass::Data));
    assert!(documents.contains("builtin:rules") && error.hint().unwrap().contains("spike_deviations"));
    assert_eq!(bench.record().step, step, "the state is saved");
    // A loss that is no number is skipped as well.
    let wild = Bench::new(|train| {
        (train.learning_rate, train.grad_clip_norm, train.warmup_steps) = (1e30, 0.0, 0);
        (train.spike_deviations, train.max_spikes) = (6.0, 3);
    });
    assert!(matches!(wild.run(&mut Silent, &StopSignal::new()).unwrap_err(), TrainError::Spikes { in_a_row: 3, .. }));
}

#[test]
fn patience_looks_at_the_metric_it_is_told_to() {
    let bench = Bench::new(|train| {
        (train.steps, train.patience, train.learning_rate) = (200, 2, 1e-12);
        train.patience_metric = PatienceMetric::TokenAccuracy;
    });
    let outcome = bench.run(&mut Silent, &StopSignal::new()).unwrap();
    assert_eq!(outcome.ending, Ending::Patience);
    assert_eq!(outcome.state.best_metric, Some(outcome.state.first_evaluation.unwrap().token_accuracy));
}

#[test]
fn a_mixture_has_its_shares_its_stages_and_its_sets() {
    let mut bench = Bench::new(|train| {
        (train.steps, train.patience, train.learning_rate) = (30, 2, 1e-12);
        (train.patience_metric, train.patience_set) = (PatienceMetric::Loss, "other".to_owned());
    });
    bench.mixture = true;
    let plan = bench.plan();
    let loader = plan.train_loader().unwrap();
    let (of, per_step) = (|position| loader.served(position), bench.train.windows_per_step());
    assert_eq!((of(0), of(4)), (vec![("more", 0), ("rules", 0)], vec![("more", 1), ("rules", 3)]));
    assert_eq!(of(6 * per_step), [("more", 6), ("rules", 18)]);
    assert_eq!(of(6 * per_step + 9), [("more", 12), ("rules", 21)], "two to one from step 7 on");
    // Each source's windows come in the order that it has alone, whatever lies between.
    let windows: Vec<_> = (0..40).map(|position| loader.batch(position, 1).unwrap()).collect();
    let alone = plan.data.train_loader(&plan.windows()).unwrap();
    assert_eq!(alone.batch(0, 40).unwrap().inputs, windows.iter().flat_map(|batch| batch.inputs.clone()).collect::<Vec<_>>());
    for (source, name) in loader.names().enumerate() {
        let split = plan.data.sources()[source].cache.split(codex_data::Split::Train);
        let expected = codex_data::WindowLoader::new(split, 16, 5, true, false).unwrap();
        let of_source: Vec<_> = windows.iter().filter(|batch| batch.documents[0].source == source).collect();
        assert!(of_source.len() > 10, "{name}");
        for (i, batch) in of_source.iter().enumerate() {
            assert_eq!(batch.inputs, expected.batch(i as u64, 1).unwrap().inputs, "{name} {i}");
            assert!(loader.origins(batch.documents[0]).unwrap()[0].to_string().contains(name));
        }
    }
    let outcome = bench.run(&mut Silent, &StopSignal::new()).unwrap();
    // With a learning rate of nothing, the loss of the set does not get better.
    assert_eq!(outcome.ending, Ending::Patience);
    let set = outcome.state.sets["other"];
    assert_eq!(outcome.state.best_metric.map(|best| best <= -set.loss + 1e-3), Some(true));
    assert_ne!(set.loss.to_bits(), outcome.state.last_evaluation.unwrap().loss.to_bits());
    let record = bench.record();
    assert_eq!(record.summary["validation/other/loss"].to_bits(), set.loss.to_bits());
    let windows = loader.served(outcome.state.cursor.position)[0].1 as f64;
    assert_eq!(record.summary["epochs/more"].to_bits(), (windows / loader.windows_of_sources()[0].1 as f64).to_bits());
}

#[test]
fn a_callback_that_panics_ends_the_run_with_its_state_saved() {
    struct Broken(&'static str, u64);
    impl Broken {
        fn at(&self, callback: &str, step: u64) {
            assert!((self.0, self.1) != (callback, step), "broken in {callback}");
        }
    }
    impl Observer for Broken {
        fn step(&mut self, report: &StepReport) {
            self.at("step", report.step);
        }
        fn evaluation(&mut self, report: &EvaluationReport) {
            self.at("evaluation", report.step);
        }
        fn saved(&mut self, step: u64, _path: &std::path::Path) {
            self.at("saved", step);
        }
        fn ended(&mut self, step: u64) {
            self.at("ended", step);
        }
    }
    let expected = Bench::new(|_| {}).run(&mut Silent, &StopSignal::new()).unwrap();
    for (callback, at) in [("step", 7), ("evaluation", 0), ("evaluation", 20), ("saved", 5), ("ended", 40)] {
        let bench = Bench::new(|_| {});
        let error = bench.run(&mut Broken(callback, at), &StopSignal::new()).unwrap_err();
        let TrainError::Callback { callback: found, step, ref message } = error else { panic!("{error}") };
        assert_eq!((found, message.as_str()), (callback, format!("broken in {callback}").as_str()));
        assert!(step >= at && step <= at + 6, "{callback} {at} {step}");
        assert!(error.hint().unwrap().contains("can go on"));
        if step > 0 {
            assert_eq!(bench.record().step, step, "{callback}: the state is saved");
        }
        let outcome = bench.run(&mut Silent, &StopSignal::new()).unwrap();
        assert_eq!((weights(&outcome.model), outcome.state), (weights(&expected.model), expected.state.clone()), "{callback}");
    }
}

/// Puts a file in the place of the checkpoints' folder after a step, and the folder back when it is told to.
struct TakeAway {
    checkpoints: std::path::PathBuf,
    after: u64,
    gives_back: bool,
    warnings: Vec<String>,
}

impl Observer for TakeAway {
    fn step(&mut self, report: &StepReport) {
        if report.step == self.after {
            codex_core::files::rename_new(&self.checkpoints, &self.checkpoints.with_extension("away")).unwrap();
            codex_core::files::write_atomic(&self.checkpoints, b"no folder").unwrap();
        }
    }

    fn warning(&mut self, message: &str) {
        self.warnings.push(message.to_owned());
        if self.gives_back {
            codex_core::files::remove_file(&self.checkpoints).unwrap();
            codex_core::files::rename_new(&self.checkpoints.with_extension("away"), &self.checkpoints).unwrap();
        }
    }
}

#[test]
fn a_save_that_is_refused_is_tried_again_and_then_ends_the_run() {
    let expected = Bench::new(|_| {}).run(&mut Silent, &StopSignal::new()).unwrap();
    let run = |gives_back, policy| {
        let mut bench = Bench::new(|_| {});
        bench.on_failure = policy;
        let checkpoints = bench.plan().run.checkpoints();
        let mut observer = TakeAway { checkpoints, after: 7, gives_back, warnings: Vec::new() };
        let result = bench.run(&mut observer, &StopSignal::new());
        (bench, observer, result)
    };
    let (bench, observer, result) = run(true, OnFailure::Retry);
    let outcome = result.unwrap();
    assert_eq!(weights(&outcome.model), weights(&expected.model));
    assert!(observer.warnings[0].starts_with("step 10 could not be saved: ") && observer.warnings.len() == 1, "{:?}", observer.warnings);
    assert_eq!((bench.record().step, bench.record().status), (40, RunStatus::Finished));
    for (policy, n_warnings) in [(OnFailure::Retry, 1), (OnFailure::Stop, 0)] {
        let (bench, observer, result) = run(false, policy);
        let error = result.unwrap_err();
        assert_eq!((error.exit_class(), observer.warnings.len()), (ExitClass::Io, n_warnings), "{error}");
        assert!(error.to_string().contains("checkpoints"), "{error}");
        // What was saved before is whole, and the run can go on from there.
        let away = observer.checkpoints.with_extension("away");
        codex_core::files::remove_file(&observer.checkpoints).unwrap();
        codex_core::files::rename_new(&away, &observer.checkpoints).unwrap();
        let outcome = bench.run(&mut Silent, &StopSignal::new()).unwrap();
        assert_eq!((outcome.resumed_from, weights(&outcome.model)), (Some(5), weights(&expected.model)));
    }
}

#[test]
fn products_in_f16_learn_with_a_loss_that_is_scaled_and_resume_exactly() {
    let configure =
        |factor: f64| move |train: &mut TrainConfig| (train.precision, train.loss_scale, train.steps) = (Precision::F16, factor, 40);
    let of = |bench: &Bench| bench.run(&mut Silent, &StopSignal::new()).unwrap();
    let plain = of(&Bench::new(|_| {})).state.last_evaluation.unwrap().loss;
    let straight = Bench::new(configure(1024.0));
    let outcome = of(&straight);
    let loss = outcome.state.last_evaluation.unwrap().loss;
    assert!((loss - plain).abs() < 0.02, "{loss} and {plain}");
    let kept = outcome.state.loss_scale.map(|scale| (scale.factor.to_bits(), scale.good_steps, scale.skipped));
    assert_eq!(kept, Some((1024.0_f64.to_bits(), 40, 0)));
    // A factor that makes everything overflow is halved until nothing does; the steps are skipped and told.
    let wild = Bench::new(configure(16_777_216.0));
    let expected = of(&wild);
    let scale = expected.state.loss_scale.unwrap();
    let halved = 16_777_216.0 / f64::powi(2.0, scale.skipped as i32);
    assert!(scale.skipped >= 8 && scale.factor.to_bits() == halved.to_bits(), "{scale:?}");
    assert_eq!(expected.state.step, 40);
    let events = codex_core::files::read_to_string(&wild.plan().run.path().join("events.ndjson")).unwrap();
    assert_eq!(events.matches("gradients overflowed").count() as u64, scale.skipped);
    let resumed = Bench::new(configure(16_777_216.0));
    for at in [3, 20] {
        let stop = StopSignal::new();
        resumed.run(&mut StopAt(at, stop.clone()), &stop).unwrap();
    }
    let outcome = of(&resumed);
    assert_eq!((weights(&outcome.model), outcome.state), (weights(&expected.model), expected.state));
}

#[test]
fn without_a_factor_small_gradients_are_lost_in_f16() {
    let config = ModelConfig { d_model: 16, n_layers: 2, n_heads: 2, n_kv_heads: 2, context_length: 8, ..ModelConfig::default() };
    let model = Decoder::init(&config, 50, 3, &Device::flex().autodiff()).unwrap();
    let (inputs, targets): (Vec<u32>, Vec<u32>) = ((0..8).collect(), (10..18).collect());
    // The gradients of a loss whose targets weigh little, multiplied by so much before the backward pass and divided after it.
    let gradients = |precision, weight: f32, factor: f32| {
        let model = model.clone().with_precision(precision);
        let windows = WindowBatch { n_rows: 1, inputs: &inputs, segments: None, dropout: None };
        let targets = Targets { ids: &targets, weights: &[weight * factor; 8], settings: LossSettings::default() };
        let mut sum = GradientSum::default();
        sum.add(&model, &mut model.loss(&windows, targets).unwrap().sum.backward());
        sum.scale_and_clip(1.0 / f64::from(weight * factor), 0.0).unwrap();
        sum.to_host().unwrap()
    };
    let exact = gradients(Precision::F32, 1.0, 1.0);
    let apart = |other: &BTreeMap<String, Vec<f32>>| {
        let pairs = exact.iter().flat_map(|(path, values)| values.iter().zip(&other[path]));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let weight = f32::powi(2.0, -24);
    let (scaled, plain) = (apart(&gradients(Precision::F16, weight, f32::powi(2.0, 24))), apart(&gradients(Precision::F16, weight, 1.0)));
    assert!(scaled < 2e-2 && plain > 20.0 * scaled, "{scaled} and {plain}");
}
