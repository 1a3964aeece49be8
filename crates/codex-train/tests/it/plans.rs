//! What makes a plan another one.

use std::collections::BTreeSet;

use codex_data::Packing;

use crate::setup::Bench;

#[test]
fn how_documents_become_windows_is_part_of_the_plan() {
    let digest = |packing: Packing, isolate: bool| {
        let mut bench = Bench::new(|_| {});
        (bench.packing, bench.isolate) = (packing, isolate);
        bench.plan().key().unwrap().digest().unwrap()
    };
    let all = [digest(Packing::Auto, false), digest(Packing::Auto, true), digest(Packing::BestFit, false), digest(Packing::Rows, false)];
    let different: BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
    assert_eq!(digest(Packing::BestFit, false), all[2]);
}
