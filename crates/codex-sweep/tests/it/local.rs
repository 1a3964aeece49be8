//! Trials as processes of this machine.

use codex_core::{Failure as _, files};
use codex_sweep::launcher::Context;
use codex_sweep::launcher::local::{self, Ended, Event, Job};

use crate::fakes::Fakes;
use crate::launchers::{NASTY, assert_each_once, commands, context, sweep};

#[test]
fn local_processes_run_some_at_a_time_and_each_ends_once() {
    let fakes = Fakes::new();
    fakes.codex();
    let sweep = sweep(9, "kind = \"local\"");
    let context =
        Context { program: fakes.path("codex-cli").display().to_string(), arguments: NASTY.map(str::to_owned).to_vec(), ..context() };
    let jobs: Vec<Job> = commands(&sweep, &context)
        .into_iter()
        .enumerate()
        .map(|(index, argv)| Job { index, argv, working_dir: None, log: fakes.path(&format!("t{index}/output.log")) })
        .collect();
    let (mut running, mut most) = (0_i32, 0);
    let ended = local::run(
        jobs,
        3,
        || true,
        |event| {
            running += if matches!(event, Event::Started { .. }) { 1 } else { -1 };
            most = most.max(running);
        },
    )
    .unwrap();
    assert_eq!((running, most), (0, 3));
    assert_eq!(ended, (0..9).map(|index| Ended { index, code: 0 }).collect::<Vec<_>>());
    assert_each_once(&fakes.calls(), 9, &context.sweep_file, &NASTY);
}

#[test]
fn exit_codes_signals_output_and_a_stop_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let job = |index: usize, script: &str| Job {
        index,
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        working_dir: Some(dir.path().to_owned()),
        log: dir.path().join(format!("{index}.log")),
    };
    let jobs = [job(4, "echo out; echo err >&2; exit 3"), job(1, "kill -TERM $$"), job(2, "pwd")];
    let ended = local::run(jobs.clone(), 2, || true, |_| ()).unwrap();
    assert_eq!(ended.iter().map(|ended| (ended.index, ended.code)).collect::<Vec<_>>(), [(1, 143), (2, 0), (4, 3)]);
    local::run([jobs[0].clone()], 1, || true, |_| ()).unwrap();
    assert_eq!(files::read_to_string(&dir.path().join("4.log")).unwrap(), "out\nerr\nout\nerr\n", "behind what was there");
    // What is asked before the third start says no: the two that run are waited for.
    let mut asked = 0;
    let ended = local::run(
        (0..9).map(|index| job(index, "true")),
        2,
        || {
            asked += 1;
            asked <= 2
        },
        |_| (),
    )
    .unwrap();
    assert_eq!(ended.len(), 2);
    let mut missing = job(5, "");
    missing.argv = vec!["no-such-program-here".to_owned()];
    let mut events = Vec::new();
    let error = local::run([job(0, "exit 0"), missing, job(1, "exit 0")], 2, || true, |event| events.push(event)).unwrap_err();
    assert_eq!(error.exit_class().code(), 5);
    assert!(error.to_string().starts_with("cannot start `no-such-program-here`"), "{error}");
    assert_eq!(events.len(), 2, "the first is waited for, the last is not started");
}
