//! The loop on a real, small problem: it learns, it resumes to the same bits, it counts micro-batches by their tokens, and it stops as told.
#![expect(clippy::unwrap_used, reason = "a test's setup fails loudly")]

mod adapters;
mod conversations;
mod engine;
mod grid;
mod optimizer;
mod plans;
mod recomputed;
mod setup;

use codex_core::{ExitClass, Failure};
use codex_track::RunStatus;
use codex_train::{Ending, EvaluationReport, Observer, StopSignal, TrainConfig, TrainError, TrainState};

use crate::setup::{Bench, StopAt, apart, weights};

#[test]
fn it_learns_what_the_unigram_model_cannot_know() {
    let bench = Bench::new(|train| train.steps = 150);
    let outcome = bench.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
    let last = outcome.state.last_evaluation.unwrap();
    let first = outcome.state.first_evaluation.unwrap();
    assert_eq!(outcome.ending, Ending::Finished);
    assert!(last.loss < 0.7 * outcome.baseline.loss, "{} against the unigram model's {}", last.loss, outcome.baseline.loss);
    assert!(first.loss > outcome.baseline.loss);
    assert!((first.perplexity - first.loss.exp()).abs() < 1e-6);
    let record = bench.record();
    assert_eq!((record.status, record.step), (RunStatus::Finished, bench.train.steps));
    assert!((record.summary["validation/loss"] - last.loss).abs() < 1e-12);
}

#[test]
fn resumed_equals_uninterrupted_bit_for_bit() {
    // Dropped here and there: between saves, at a save, before an evaluation, in the second epoch, with accumulation and dropout.
    for (accumulation, dropout) in [(1, 0.0), (2, 0.1)] {
        let configure = move |train: &mut TrainConfig| (train.accumulation, train.dropout) = (accumulation, dropout);
        let straight = Bench::new(configure);
        let expected = straight.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
        for stops in [vec![1], vec![7], vec![10, 11], vec![25, 33]] {
            let bench = Bench::new(configure);
            for &at in &stops {
                let stop = StopSignal::new();
                let outcome = bench.run(&mut StopAt(at, stop.clone()), &stop).unwrap();
                assert_eq!((outcome.ending, outcome.state.step), (Ending::Signal(15), at));
                assert_eq!(bench.record().status, RunStatus::Interrupted);
            }
            let outcome = bench.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
            assert_eq!(outcome.resumed_from, stops.last().copied());
            assert_eq!(weights(&outcome.model), weights(&expected.model), "stopped at {stops:?}");
            assert_eq!(outcome.state, expected.state);
            assert_eq!(bench.losses(), straight.losses(), "each step's loss appears once");
        }
    }
}

#[test]
fn an_early_stop_is_the_same_after_a_resume() {
    let configure = |train: &mut TrainConfig| {
        train.steps = 200;
        train.patience = 2;
        train.learning_rate = 1e-12;
    };
    let expected = Bench::new(configure).run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
    let bench = Bench::new(configure);
    for at in [13, 20] {
        let stop = StopSignal::new();
        bench.run(&mut StopAt(at, stop.clone()), &stop).unwrap();
    }
    let outcome = bench.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
    assert_eq!((outcome.ending, outcome.state), (Ending::Patience, expected.state));
}

#[test]
fn a_signal_before_the_first_step_is_heard_during_the_first_evaluation() {
    struct StopNow(StopSignal);
    impl Observer for StopNow {
        fn evaluating(&mut self, _done: u64, _all: u64) {
            self.0.request(2);
        }
    }
    let (straight, bench) = (Bench::new(|train| train.steps = 6), Bench::new(|train| train.steps = 6));
    let stop = StopSignal::new();
    let outcome = bench.run(&mut StopNow(stop.clone()), &stop).unwrap();
    assert_eq!((outcome.ending, outcome.state.step, outcome.state.first_evaluation), (Ending::Signal(2), 0, None));
    let expected = straight.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
    let outcome = bench.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
    assert_eq!((outcome.resumed_from, &outcome.state), (Some(0), &expected.state));
    assert_eq!(weights(&outcome.model), weights(&expected.model));
}

#[test]
fn an_observer_may_end_a_run_at_an_evaluation_and_it_can_go_on() {
    struct EndAt(u64, StopSignal);
    impl Observer for EndAt {
        fn evaluation(&mut self, report: &EvaluationReport) {
            if report.step == self.0 {
                self.1.request_end();
            }
        }
    }
    let (straight, bench) = (Bench::new(|train| train.steps = 20), Bench::new(|train| train.steps = 20));
    let stop = StopSignal::new();
    let outcome = bench.run(&mut EndAt(10, stop.clone()), &stop).unwrap();
    assert_eq!((outcome.ending, outcome.state.step), (Ending::Asked, 10));
    let expected = straight.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
    let outcome = bench.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
    assert_eq!((outcome.resumed_from, &outcome.state), (Some(10), &expected.state));
    assert_eq!(weights(&outcome.model), weights(&expected.model));
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_does_not() {
    let run = |seed| Bench::with_seed(seed, |train| train.steps = 6).run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
    let first = weights(&run(3).model);
    assert_eq!(first, weights(&run(3).model));
    assert_ne!(first, weights(&run(4).model));
}

#[test]
fn micro_batches_make_the_step_of_the_whole_batch() {
    let mut of_dropout = Vec::new();
    for dropout in [0.0, 0.2] {
        let run = |batch_size, accumulation| {
            let bench = Bench::new(|train| *train = TrainConfig { batch_size, accumulation, dropout, steps: 4, ..train.clone() });
            weights(&bench.run(&mut codex_train::Silent, &StopSignal::new()).unwrap().model)
        };
        let whole = run(4, 1);
        assert!(apart(&whole, &run(2, 2)) < 1e-4);
        assert!(apart(&whole, &run(1, 4)) < 1e-4);
        assert!(apart(&whole, &run(3, 1)) > 1e-3, "another batch is another step");
        of_dropout.push(whole);
    }
    assert!(apart(&of_dropout[0], &of_dropout[1]) > 1e-3, "dropout changes the step");
}

#[test]
fn micro_batches_weigh_by_their_target_tokens() {
    // Documents of many lengths, kept apart: the first target of each does not count, so windows have unequal numbers of targets.
    let run = |batch_size, accumulation| {
        let mut bench = Bench::new(|train| *train = TrainConfig { batch_size, accumulation, steps: 4, ..train.clone() });
        bench.isolate = true;
        let outcome = bench.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
        (weights(&outcome.model), outcome.state.tokens)
    };
    let (whole, tokens) = run(4, 1);
    assert!(tokens < 4 * 4 * 16, "some targets must not count: {tokens}");
    let (parts, same) = run(1, 4);
    assert_eq!(tokens, same);
    assert!(apart(&whole, &parts) < 1e-4);
}

#[test]
#[expect(deprecated, reason = "burn-ndarray is the reference that flex is compared with, for as long as it exists")]
fn ndarray_trains_the_model_that_flex_trains() {
    let configure = |train: &mut TrainConfig| train.steps = 8;
    let (flex, ndarray) = (Bench::new(configure), Bench::new(configure));
    let a = flex.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
    let b = ndarray.run_on(&burn::tensor::Device::ndarray(), &mut codex_train::Silent, &StopSignal::new()).unwrap();
    assert!(apart(&weights(&a.model), &weights(&b.model)) < 1e-4);
    let loss = |state: &TrainState| state.last_evaluation.unwrap().loss;
    assert!((loss(&a.state) - loss(&b.state)).abs() < 1e-4);
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_the_documents() {
    let bench = Bench::new(|train| {
        train.learning_rate = 1e30;
        train.grad_clip_norm = 0.0;
        train.warmup_steps = 0;
    });
    let error = bench.run(&mut codex_train::Silent, &StopSignal::new()).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
    assert!(error.to_string().contains("builtin:rules"), "{error}");
    assert_eq!(error.exit_class(), ExitClass::Data);
    assert!(error.hint().unwrap().contains("learning_rate"));
}

#[test]
fn training_ends_when_the_validation_loss_stops_falling() {
    let bench = Bench::new(|train| {
        train.steps = 200;
        train.patience = 2;
        train.learning_rate = 1e-12;
    });
    let outcome = bench.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
    assert_eq!(outcome.ending, Ending::Patience);
    assert!(outcome.state.step < 60, "{}", outcome.state.step);
    assert_eq!(bench.record().status, RunStatus::Finished);
}

#[test]
fn a_checkpoint_of_another_plan_is_refused() {
    let bench = Bench::new(|train| train.steps = 4);
    bench.run(&mut codex_train::Silent, &StopSignal::new()).unwrap();
    let other = bench.changed(|train| train.learning_rate *= 2.0);
    let error = other.run(&mut codex_train::Silent, &StopSignal::new()).unwrap_err();
    assert_eq!(error.exit_class(), ExitClass::Integrity);
    assert!(error.to_string().contains("another plan"), "{error}");
    assert!(error.hint().unwrap().contains("--fresh"));
}
