//! The grid of resumes: whatever is trained, however it is interrupted, on any number of threads, the end is the uninterrupted run's, byte for byte. And its
//! teeth: a resume that forgets something ends elsewhere.

use codex_checkpoint::{CheckpointConfig, CheckpointStore, FolderStore, Snapshot};
use codex_core::TensorMap;
use codex_data::Packing;
use codex_model::{AdapterConfig, AdapterKind, Precision, parameters};
use codex_train::{BaseModel, Observer, OptimizerKind, Outcome, Silent, StepReport, StopSignal, TrainState};
use serde_json::Value;

use crate::setup::{Bench, StopAt, weights};

/// Steps of a cell: more than an epoch, not a multiple of the steps between evaluations or saves.
const STEPS: u64 = 13;

/// What is trained.
#[derive(Clone, Copy, Debug)]
enum Trained {
    Adamw,
    MuonAndMean,
    Adafactor,
    Lora,
    LoraOnEightBits,
    Dora,
}

/// How a run is interrupted.
#[derive(Clone, Copy, Debug)]
enum Stop {
    InTheFirstEpoch,
    AtTheEndOfAnEpoch,
    InTheSecondEpoch,
    TwiceAroundAnEvaluation,
    DuringAnEvaluation,
}

const TRAINED: [Trained; 6] =
    [Trained::Adamw, Trained::MuonAndMean, Trained::Adafactor, Trained::Lora, Trained::LoraOnEightBits, Trained::Dora];
const STOPS: [Stop; 5] =
    [Stop::InTheFirstEpoch, Stop::AtTheEndOfAnEpoch, Stop::InTheSecondEpoch, Stop::TwiceAroundAnEvaluation, Stop::DuringAnEvaluation];

/// One cell.
#[derive(Clone, Copy, Debug)]
struct Cell {
    trained: Trained,
    precision: Precision,
    isolate: bool,
    dropout: f64,
    accumulation: usize,
    mixture: bool,
    recompute: bool,
    packing: Packing,
    threads: usize,
    stop: Stop,
}

fn cells() -> Vec<Cell> {
    let mut all = Vec::new();
    for trained in TRAINED {
        for precision in [Precision::F32, Precision::Bf16] {
            for isolate in [false, true] {
                for dropout in [0.0, 0.1] {
                    for accumulation in [1, 2] {
                        // Threads and stops go round by numbers without a common divisor, so that each meets all else.
                        let index = all.len();
                        let (threads, stop) = ([1, 2, 4][index % 3], STOPS[index % STOPS.len()]);
                        let (mixture, recompute) = (index % 7 < 3, index % 11 < 5);
                        let packing = if index % 13 < 4 { Packing::BestFit } else { Packing::Auto };
                        all.push(Cell { trained, precision, isolate, dropout, accumulation, mixture, recompute, packing, threads, stop });
                    }
                }
            }
        }
    }
    all
}

fn base() -> BaseModel {
    let outcome = Bench::new(|train| train.steps = 6).run(&mut Silent, &StopSignal::new()).unwrap();
    BaseModel::held(weights(&outcome.model)).unwrap()
}

fn bench(cell: &Cell, base: &BaseModel) -> Bench {
    let mut bench = Bench::new(|train| {
        (train.steps, train.batch_size, train.warmup_steps) = (STEPS, 8, 2);
        (train.precision, train.dropout, train.accumulation) = (cell.precision, cell.dropout, cell.accumulation);
        train.recompute_activations = cell.recompute;
        match cell.trained {
            Trained::MuonAndMean => (train.optimizer, train.ema_decay) = (OptimizerKind::Muon, 0.7),
            Trained::Adafactor => (train.optimizer, train.learning_rate) = (OptimizerKind::Adafactor, 0.1),
            _ => {}
        }
    });
    (bench.isolate, bench.mixture, bench.packing) = (cell.isolate, cell.mixture, cell.packing);
    let adapter = |kind, quantize_base| AdapterConfig { kind, rank: 2, dropout: cell.dropout, quantize_base, ..AdapterConfig::default() };
    bench.adapter = match cell.trained {
        Trained::Lora => adapter(AdapterKind::Lora, false),
        Trained::LoraOnEightBits => adapter(AdapterKind::Lora, true),
        Trained::Dora => adapter(AdapterKind::Dora, false),
        _ => AdapterConfig::default(),
    };
    if bench.adapter.is_on() {
        bench.base = Some(base.clone());
    }
    bench
}

fn on_threads<R: Send>(n: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(work)
}

/// Asks for a stop while the evaluation after a step goes on.
struct StopInEvaluation {
    step: u64,
    after: u64,
    stop: StopSignal,
}

impl Observer for StopInEvaluation {
    fn step(&mut self, report: &StepReport) {
        self.step = report.step;
    }

    fn evaluating(&mut self, _done: u64, _all: u64) {
        if self.step == self.after {
            self.stop.request(15);
        }
    }
}

fn interrupt(bench: &Bench, cell: &Cell) -> Vec<u64> {
    let per_epoch = bench.plan().train_loader().unwrap().windows_per_epoch() / bench.train.windows_per_step();
    let at = |step: u64| step.clamp(1, STEPS - 1);
    let stops = match cell.stop {
        Stop::InTheFirstEpoch => vec![3],
        Stop::AtTheEndOfAnEpoch => vec![at(per_epoch)],
        Stop::InTheSecondEpoch => vec![at(per_epoch + 3)],
        Stop::TwiceAroundAnEvaluation => vec![9, 10],
        Stop::DuringAnEvaluation => {
            let stop = StopSignal::new();
            let mut observer = StopInEvaluation { step: 0, after: 10, stop: stop.clone() };
            bench.run(&mut observer, &stop).unwrap();
            return vec![10];
        }
    };
    for &step in &stops {
        let stop = StopSignal::new();
        bench.run(&mut StopAt(step, stop.clone()), &stop).unwrap();
    }
    stops
}

/// What must be the same: weights, state, and every loss as it was written.
fn end(bench: &Bench, outcome: &Outcome) -> (TensorMap, TrainState, Vec<(u64, String)>) {
    (parameters::collect_trained(&outcome.model).unwrap(), outcome.state.clone(), bench.losses())
}

#[test]
fn every_cell_of_the_grid_resumes_to_the_same_bytes() {
    let base = base();
    let cells = cells();
    assert_eq!(cells.len(), 96);
    for cell in &cells {
        let straight = bench(cell, &base);
        let expected = straight.run(&mut Silent, &StopSignal::new()).unwrap();
        let interrupted = bench(cell, &base);
        let outcome = on_threads(cell.threads, || {
            let stops = interrupt(&interrupted, cell);
            let outcome = interrupted.run(&mut Silent, &StopSignal::new()).unwrap();
            assert_eq!(outcome.resumed_from, stops.last().copied(), "{cell:?}");
            outcome
        });
        assert!(end(&interrupted, &outcome) == end(&straight, &expected), "{cell:?}");
    }
}

/// A run whose only checkpoint is that of a step, changed by `change`.
fn resumed_from_a_changed_checkpoint(change: impl Fn(&mut Snapshot)) -> TensorMap {
    let bench = Bench::new(|train| (train.steps, train.dropout) = (STEPS, 0.1));
    let stop = StopSignal::new();
    bench.run(&mut StopAt(9, stop.clone()), &stop).unwrap();
    let (folder, config) = (bench.plan().run.checkpoints(), CheckpointConfig::default());
    let loaded = FolderStore::read_only(&folder).unwrap().load(9).unwrap();
    let mut snapshot = Snapshot {
        step: loaded.step,
        plan: loaded.manifest.plan,
        weights: loaded.weights,
        moments: loaded.moments,
        state: loaded.state,
        metrics: loaded.metrics,
        extra: loaded.extra.into_iter().collect(),
        lease: None,
    };
    change(&mut snapshot);
    codex_core::files::remove_dir_all(&folder).unwrap();
    drop(FolderStore::open(&folder, &config).unwrap().save(snapshot).unwrap());
    weights(&bench.run(&mut Silent, &StopSignal::new()).unwrap().model)
}

#[test]
fn a_resume_that_forgets_something_ends_elsewhere() {
    let straight = Bench::new(|train| (train.steps, train.dropout) = (STEPS, 0.1));
    let expected = weights(&straight.run(&mut Silent, &StopSignal::new()).unwrap().model);
    assert_eq!(resumed_from_a_changed_checkpoint(|_| {}), expected, "nothing is forgotten");
    let number = |snapshot: &Snapshot, pointer: &str| snapshot.state.pointer(pointer).and_then(Value::as_u64).unwrap();
    let cursor = |snapshot: &mut Snapshot| {
        let position = number(snapshot, "/cursor/position");
        snapshot.state["cursor"]["position"] = (position - 4).into();
    };
    let moments = |snapshot: &mut Snapshot| {
        for tensor in snapshot.moments.values_mut() {
            tensor.values = vec![0.0; tensor.values.len()].into();
        }
    };
    // The step decides the learning rate and every mask.
    let step = |snapshot: &mut Snapshot| {
        snapshot.step = 8;
        snapshot.state["step"] = 8.into();
    };
    let a_bit = |snapshot: &mut Snapshot| {
        let tensor = snapshot.weights.get_mut("final_norm.weight").unwrap();
        let mut values = tensor.values.to_vec();
        values[0] = f32::from_bits(values[0].to_bits() + 1);
        tensor.values = values.into();
    };
    for (what, forgotten) in [
        ("cursor", resumed_from_a_changed_checkpoint(cursor)),
        ("moments", resumed_from_a_changed_checkpoint(moments)),
        ("step", resumed_from_a_changed_checkpoint(step)),
        ("a bit", resumed_from_a_changed_checkpoint(a_bit)),
    ] {
        assert_ne!(forgotten, expected, "{what}");
    }
}
