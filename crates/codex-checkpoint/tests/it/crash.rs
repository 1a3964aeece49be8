//! One part of `cargo xtask crash`, in full: a test that does nothing unless the folder it runs in holds a plan.
//!
//! The other tests try a sample of the same cases each time the tests run.

use std::path::Path;

use codex_core::files;
use serde::Deserialize;

use crate::tally::Tally;
use crate::{damage, fault, kill, power, traversal};

/// What is to be run, and where what came of it is written, a line of JSON for each case.
const PLAN: &str = "crash-plan.json";
const CASES: &str = "crash-cases.ndjson";

/// A part, all of it or about so many cases of each group.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    part: Part,
    seed: u64,
    limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Kill,
    /// The order of the flushes alone, which `Kill` has too.
    Order,
    Power,
    Fault,
    Damage,
    Manifest,
}

#[test]
fn runs_a_part_when_there_is_a_plan() {
    let Ok(bytes) = files::read(Path::new(PLAN)) else { return };
    let plan: Plan = serde_json::from_slice(&bytes).unwrap();
    let mut tally = Tally::to(Path::new(CASES), plan.limit);
    match plan.part {
        Part::Kill => {
            kill::orders(&kill::scenarios(), &mut tally);
            kill::kills(&kill::scenarios(), &mut tally);
        }
        Part::Order => kill::orders(&kill::scenarios(), &mut tally),
        Part::Power => power::losses(plan.seed, &mut tally),
        Part::Fault => fault::faults(&mut tally),
        Part::Damage => damage::damages(plan.seed, &mut tally),
        Part::Manifest => traversal::attacks(&mut tally),
    }
    tally.end();
}
