//! Readers meet any bytes in the files of a run without a panic.

use std::sync::Arc;

use codex_core::{Digest, FixedClock, Timestamp, files};
use codex_track::event::read_events;
use codex_track::{RunDir, RunRecord, TrackConfig, Tracker, list_runs, report, summarize};
use proptest::prelude::*;

const FILES: [&str; 10] = [
    "metrics.ndjson",
    "metrics.csv",
    "events.ndjson",
    "system.ndjson",
    "config.resolved.toml",
    "config.sources.json",
    "environment.json",
    "dataset_checksums.json",
    "metrics.location.json",
    "run.json",
];

/// Lines that are almost right, among bytes that are not.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        (any::<u64>(), any::<f64>()).prop_map(|(step, value)| {
            format!(r#"{{"run_id":"r","step":{step},"split":"train","metric":"loss","value":{value:?},"ts":"x"}}"#).into_bytes()
        }),
        any::<u64>().prop_map(|step| {
            format!(r#"{{"ts":"1","level":"warn","kind":"sample","message":"m","step":{step},"text":[1]}}"#).into_bytes()
        }),
        "step,split,metric,value,dataset,run_id,timestamp".prop_map(String::into_bytes),
        "[0-9]{1,20},train,loss,[0-9.e]{1,9},,r,\"?x".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(line, 0..8).prop_map(|lines| lines.join(&b'\n'))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_reader_panics(contents in proptest::collection::vec(content(), 9), resume in proptest::option::of(any::<u64>())) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("20260101-000000-r");
        files::create_dir_all(&path).unwrap();
        let run = RunDir::open(&path).unwrap();
        RunRecord::new(&run, "r", &[], 1, Digest::of_bytes(b""), Digest::of_bytes(b""), Timestamp(0)).write(&run).unwrap();
        for (name, bytes) in FILES.into_iter().zip(&contents) {
            files::write_atomic(&path.join(name), bytes).unwrap();
        }
        let _summary = summarize(&run);
        let _events = read_events(&run);
        prop_assert!(report::render(&run).unwrap().ends_with("</html>\n"));
        let tracker = Tracker::open(&run, None, resume, Arc::new(FixedClock::new(0, 1)), &TrackConfig::default()).unwrap();
        prop_assert!(tracker.degraded().iter().all(|one| one.component == "csv"), "{:?}", tracker.degraded());
        // Whatever was there, what a tracker leaves behind is readable.
        prop_assert_eq!(summarize(&run).unwrap().bad_lines, 0);
        files::write_atomic(&path.join("run.json"), &contents[0]).unwrap();
        prop_assert!(RunRecord::read(&run).is_err() && report::render(&run).is_err());
        prop_assert_eq!(list_runs(root.path()).unwrap().len(), 1);
    }
}
