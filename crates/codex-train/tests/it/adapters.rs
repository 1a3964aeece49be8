//! Training adapters on a trained model: it learns, the base stays, and a resume is exact as everywhere.

use std::collections::BTreeSet;

use codex_core::HostTensor;
use codex_model::{AdapterConfig, AdapterKind, Precision, parameters};
use codex_train::{BaseModel, Silent, StopSignal};

use crate::setup::{Bench, StopAt, weights};

/// A model that was trained for some steps.
fn base() -> BaseModel {
    let outcome = Bench::new(|train| train.steps = 12).run(&mut Silent, &StopSignal::new()).unwrap();
    let weights = weights(&outcome.model);
    BaseModel::held(weights).unwrap()
}

/// Adapters on it, with everything that draws or rounds.
fn bench(base: &BaseModel, quantize_base: bool) -> Bench {
    let mut bench = Bench::with_seed(6, |train| (train.steps, train.dropout) = (60, 0.05));
    bench.base = Some(base.clone());
    let also_train = BTreeSet::from(["norms".to_owned()]);
    bench.adapter = AdapterConfig { kind: AdapterKind::Lora, rank: 4, dropout: 0.1, also_train, quantize_base, ..AdapterConfig::default() };
    bench
}

#[test]
fn adapters_learn_and_leave_the_base_alone() {
    let base = base();
    let outcome = bench(&base, false).run(&mut Silent, &StopSignal::new()).unwrap();
    let (first, last) = (outcome.state.first_evaluation.unwrap().loss, outcome.state.last_evaluation.unwrap().loss);
    assert!(last < 0.95 * first, "{first} to {last}");
    let all = parameters::collect(&outcome.model).unwrap();
    for (path, tensor) in &base.weights().unwrap() {
        assert_eq!(all[path] == *tensor, !path.contains("norm."), "{path}");
    }
    let trained = parameters::collect_trained(&outcome.model).unwrap();
    assert!(trained.keys().all(|path| path.contains(".adapters.") || path.contains("norm.")));
}

#[test]
fn a_resume_of_adapters_is_exact() {
    let base = base();
    for quantize_base in [false, true] {
        let expected = bench(&base, quantize_base).run(&mut Silent, &StopSignal::new()).unwrap();
        let stopped = bench(&base, quantize_base);
        for at in [3, 11] {
            let stop = StopSignal::new();
            stopped.run(&mut StopAt(at, stop.clone()), &stop).unwrap();
        }
        let outcome = stopped.run(&mut Silent, &StopSignal::new()).unwrap();
        assert_eq!(outcome.resumed_from, Some(11));
        let trained = |model| parameters::collect_trained(model).unwrap();
        assert_eq!(trained(&outcome.model), trained(&expected.model));
        assert_eq!(outcome.state, expected.state);
    }
}

#[test]
fn a_base_that_is_another_when_it_is_read_again_is_refused() {
    let base = base();
    let weights = base.weights().unwrap();
    let read = weights.clone();
    assert_eq!(base.clone().read_by(move || Ok(read.clone())).weights().unwrap(), weights);
    let mut other = weights;
    other.get_mut("final_norm.weight").unwrap().values[0] += 1.0;
    let changed = base.clone().read_by(move || Ok(other.clone()));
    assert!(changed.weights().unwrap_err().to_string().contains("a moment ago"));
    let mut bench = bench(&base, false);
    bench.base = Some(changed);
    assert!(bench.run(&mut Silent, &StopSignal::new()).is_err());
    assert!(base.read_by(|| Err("it is gone".to_owned())).weights().unwrap_err().to_string().contains("it is gone"));
}

#[test]
fn adapters_of_either_kind_learn_in_bf16_what_they_learn_in_f32() {
    let base = base();
    let loss = |kind, precision| {
        let mut bench = bench(&base, false);
        (bench.train.steps, bench.train.precision) = (20, precision);
        bench.adapter.kind = kind;
        bench.run(&mut Silent, &StopSignal::new()).unwrap().state.last_evaluation.unwrap().loss
    };
    for kind in [AdapterKind::Lora, AdapterKind::Dora] {
        let (whole, narrow) = (loss(kind, Precision::F32), loss(kind, Precision::Bf16));
        assert!((whole / narrow - 1.0).abs() < 0.01, "{kind:?}: {whole} and {narrow}");
    }
}

#[test]
fn another_base_or_another_adapter_is_another_plan() {
    let base = base();
    let bench = bench(&base, false);
    let stop = StopSignal::new();
    bench.run(&mut StopAt(2, stop.clone()), &stop).unwrap();
    let mut other = bench.changed(|_| {});
    other.adapter.rank = 2;
    assert!(other.run(&mut Silent, &StopSignal::new()).unwrap_err().to_string().contains("another plan"));
    let mut other = bench.changed(|_| {});
    let mut weights = base.weights().unwrap();
    weights.insert("embedding".to_owned(), HostTensor::new(vec![1], vec![0.0]).unwrap());
    other.base = Some(BaseModel::held(weights).unwrap());
    assert!(other.run(&mut Silent, &StopSignal::new()).unwrap_err().to_string().contains("another plan"));
}
