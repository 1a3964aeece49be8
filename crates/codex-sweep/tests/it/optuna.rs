//! Asking and telling Optuna: the protocol with a script in its place, and the real program where there is one.

use std::path::Path;
use std::process::Command;

use codex_core::{Failure as _, Timestamp, files};
use codex_sweep::optuna::{Optuna, trial};
use codex_sweep::{Claim, Outcome, Sweep, SweepError, SweepFolder, Trial, TrialRecord, TrialStatus};

use crate::absent;
use crate::fakes::Fakes;

const NOW: Timestamp = Timestamp(1_795_484_319_250);

const SPACE: &str = "lr = { min = 1e-5, max = 0.1, scale = \"log\" }\nn = { min = 1, max = 10, step = 4 }\nmix = [1, 1.0, true, \"1\"]\n\
    d = { min = 0.0, max = 0.5, step = 0.2 }";

fn sweep(program: &str, more: &str) -> Sweep {
    let text = format!(
        "name = \"s\"\nstrategy = \"optuna\"\nn_trials = 8\nseed = 3\nmetric = \"loss\"\n[space]\n{SPACE}\n[optuna]\nprogram = \"{program}\"\n{more}\n"
    );
    Sweep::from_bytes(Path::new("s.toml"), text.into_bytes()).unwrap()
}

fn finish(folder: &SweepFolder, trial: &Trial, status: TrialStatus, value: Option<f64>) -> TrialRecord {
    let Claim::Ready(claim) = folder.claim(trial, NOW).unwrap() else { panic!("not ready") };
    claim.finish(status, Outcome { value, ..Outcome::default() }, NOW).unwrap()
}

/// A program that notes its arguments, one call a line, and answers `ask` from the file `answer`, whose `@` is the number of the call.
const FAKE: &str = r#"
here=$(dirname "$0")
{ printf '%s|' "$@"; echo; } >> "$here/calls"
case $1 in
  ask) n=$(grep -c '^ask' "$here/calls"); sed "s/@/$((n - 1))/" "$here/answer" ;;
  trials) cat "$here/trials" ;;
esac
echo 'ExperimentalWarning: noise on standard error' >&2
exit "$(cat "$here/code" 2>/dev/null || echo 0)"
"#;

fn fake(answer: &str) -> (Fakes, Sweep, SweepFolder) {
    let fakes = Fakes::new();
    fakes.program("optuna", FAKE);
    files::write_atomic(&fakes.path("answer"), answer.as_bytes()).unwrap();
    let sweep = sweep(&fakes.path("optuna").display().to_string(), "");
    let folder = SweepFolder::create(&sweep, &fakes.path("runs")).unwrap().folder;
    (fakes, sweep, folder)
}

fn calls(fakes: &Fakes) -> Vec<String> {
    files::read_to_string(&fakes.path("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
}

const ANSWER: &str = r#"{"number": @, "params": {"lr": 0.001, "n": 5, "mix": "1.0", "d": 0.2}}"#;

#[test]
fn the_calls_of_a_sweep_are_these() {
    let (fakes, sweep, folder) = fake(ANSWER);
    let optuna = Optuna::new(&sweep, &folder);
    assert_eq!(optuna.known(0).unwrap(), None);
    let first = optuna.ask(0).unwrap();
    assert_eq!(first.overrides, ["lr=0.001", "n=5", "mix=1.0", "d=0.2"]);
    // Asked once, whoever asks again.
    assert_eq!(optuna.ask(0).unwrap(), first);
    assert_eq!(trial(&sweep, &folder, 0).unwrap(), first);
    assert_eq!(optuna.known(0).unwrap(), Some(first.clone()));
    let record = finish(&folder, &first, TrialStatus::Failed, None);
    optuna.tell(&record).unwrap();
    let record = finish(&folder, &first, TrialStatus::Completed, Some(-1.5e-7));
    optuna.tell(&record).unwrap();
    optuna.tell(&record).unwrap();
    let second = optuna.ask(1).unwrap();
    optuna.tell(&finish(&folder, &second, TrialStatus::Stopped, Some(2.0))).unwrap();
    let third = optuna.ask(2).unwrap();
    optuna.tell(&finish(&folder, &third, TrialStatus::Completed, None)).unwrap();
    let study = format!("--storage|journal.log|--storage-class|JournalFileBackend|--study-name|{}|", sweep.folder_name());
    let space = r#"{"d":{"attributes":{"high":0.4,"log":false,"low":0.0,"step":0.2},"name":"FloatDistribution"},"lr":{"attributes":{"high":0.1,"log":true,"low":0.00001,"step":null},"name":"FloatDistribution"},"mix":{"attributes":{"choices":["1","1.0","true","\"1\""]},"name":"CategoricalDistribution"},"n":{"attributes":{"high":9,"log":false,"low":1,"step":4},"name":"IntDistribution"}}"#;
    let mut seeds = Vec::new();
    let shown: Vec<String> = calls(&fakes)
        .iter()
        .map(|call| {
            assert!(call.contains(&study), "{call}");
            let call = call.replace(&study, "");
            match call.split_once("{\"seed\":").and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
                Some((before, (seed, after))) => {
                    seeds.push(seed.to_owned());
                    format!("{before}SEED{after}")
                }
                None => call,
            }
        })
        .collect();
    let ask = format!("ask|--sampler|TPESampler|--sampler-kwargs|SEED|--search-space|{space}|-f|json|");
    assert_eq!(
        shown,
        [
            "create-study|--direction|minimize|--skip-if-exists|",
            &ask,
            "tell|--trial-number|0|--values|-0.00000015|--skip-if-finished|",
            &ask,
            "tell|--trial-number|1|--state|pruned|--skip-if-finished|",
            &ask,
            "tell|--trial-number|2|--state|fail|--skip-if-finished|",
        ]
    );
    assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2], "{seeds:?}");
}

#[test]
fn answers_that_were_not_asked_for_are_refused() {
    let cases = [
        ("", "EOF while parsing a value"),
        ("[]", "invalid length 0"),
        (r#"{"number": 0, "params": {"lr": 0.001, "n": 5, "mix": "1"}}"#, "`d` is missing"),
        (r#"{"number": 0, "params": {"lr": 0.2, "n": 5, "mix": "1", "d": 0.2}}"#, "`lr` is `0.2`, which the space lacks"),
        (r#"{"number": 0, "params": {"lr": 0.001, "n": 5.0, "mix": "1", "d": 0.2}}"#, "`n` is `5.0`"),
        (r#"{"number": 0, "params": {"lr": 0.001, "n": 4, "mix": "1", "d": 0.2}}"#, "`n` is `4`"),
        (r#"{"number": 0, "params": {"lr": 0.001, "n": 5, "mix": 1, "d": 0.2}}"#, "`mix` is `1`"),
        (r#"{"number": 0, "params": {"lr": 0.001, "n": 5, "mix": "2", "d": 0.2}}"#, "`mix` is `\"2\"`"),
        (r#"{"number": 0, "params": {"lr": 0.001, "n": 5, "mix": "1", "d": 0.2, "e": 1}}"#, "`e` was not asked for"),
        (r#"{"number": -1, "params": {"lr": 0.001, "n": 5, "mix": "1", "d": 0.2}}"#, "invalid value: integer `-1`"),
        (r#"{"number": 0, "params": {}, "more": 1}"#, "unknown field `more`"),
    ];
    for (answer, expected) in cases {
        let (fakes, sweep, folder) = fake(answer);
        files::write_atomic(&fakes.path("trials"), b"[]").unwrap();
        let optuna = Optuna::new(&sweep, &folder);
        let error = optuna.ask(0).unwrap_err();
        assert!(matches!(error, SweepError::Answer { .. }) && error.to_string().contains(expected), "{answer}: {error}");
        assert_eq!((error.exit_class().code(), optuna.known(0).unwrap()), (5, None));
    }
}

#[test]
fn a_number_that_got_lost_is_told_as_failed() {
    let (fakes, sweep, folder) = fake(ANSWER);
    let optuna = Optuna::new(&sweep, &folder);
    optuna.ask(0).unwrap();
    // As a process leaves it that was killed between the answer and writing it down.
    files::write_atomic(&folder.path().join("optuna/asking"), b"1\n").unwrap();
    let trials = br#"[{"number": 0, "state": "RUNNING", "params": {}}, {"number": 1, "state": "RUNNING"}, {"number": 2, "state": "COMPLETE", "value": 1}]"#;
    files::write_atomic(&fakes.path("trials"), trials).unwrap();
    optuna.ask(1).unwrap();
    let told: Vec<String> = calls(&fakes).into_iter().filter(|call| call.starts_with("tell")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("|--trial-number|1|--state|fail|"), "{told:?}");
    assert!(!folder.path().join("optuna/asking").exists());
}

#[test]
fn a_program_that_fails_or_is_absent_says_what_to_do() {
    let (fakes, sweep, folder) = fake(ANSWER);
    files::write_atomic(&fakes.path("code"), b"3").unwrap();
    let error = Optuna::new(&sweep, &folder).ask(0).unwrap_err();
    assert!(error.to_string().ends_with("create-study` ended with 3: ExperimentalWarning: noise on standard error"), "{error}");
    let program = fakes.path("none/optuna").display().to_string();
    let text = String::from_utf8(sweep.text().to_vec()).unwrap().replace(&fakes.path("optuna").display().to_string(), &program);
    let missing = Sweep::from_bytes(Path::new("s.toml"), text.into_bytes()).unwrap();
    let error = Optuna::new(&missing, &folder).ask(0).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot start `{program}`")), "{error}");
    assert_eq!(error.hint().unwrap(), "install it with `python3 -m pip install optuna`, or set `optuna.program` to where it is");
    assert_eq!(error.exit_class().code(), 5);
    assert!(matches!(sweep.trial(0).unwrap_err(), SweepError::NotAsked { index: 0, .. }));
    assert!(matches!(Optuna::new(&sweep, &folder).ask(8).unwrap_err(), SweepError::NoTrial { .. }));
}

/// The real program: in the environment of the interoperability checks, or on the PATH.
fn real() -> Option<&'static str> {
    let runs = |program: &&str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    ["/tmp/io-venv/bin/optuna", "optuna"].into_iter().find(runs)
}

#[test]
fn the_real_optuna_gives_parameters_and_takes_results() {
    let Some(program) = real() else {
        absent::tell("Optuna, whose study the sweeps are told to");
        return;
    };
    for (storage, arguments) in [
        ("journal", ["--storage", "journal.log", "--storage-class", "JournalFileBackend"].as_slice()),
        ("sqlite", ["--storage", "sqlite:///study.db"].as_slice()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let sweep = sweep(program, &format!("storage = \"{storage}\""));
        let folder = SweepFolder::create(&sweep, dir.path()).unwrap().folder;
        let optuna = Optuna::new(&sweep, &folder);
        let trials: Vec<Trial> = (0..3).map(|index| optuna.ask(index).unwrap()).collect();
        assert!(trials[0].parameters != trials[1].parameters && trials[1].parameters != trials[2].parameters, "{trials:?}");
        optuna.tell(&finish(&folder, &trials[0], TrialStatus::Completed, Some(-0.000_001_5))).unwrap();
        optuna.tell(&finish(&folder, &trials[1], TrialStatus::Stopped, Some(2.0))).unwrap();
        optuna.tell(&finish(&folder, &trials[2], TrialStatus::Completed, None)).unwrap();
        // What the study has is what we have.
        let output = Command::new(program)
            .current_dir(folder.path().join("optuna"))
            .args(["trials", "-f", "json", "--study-name", &sweep.folder_name()])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let study: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let states: Vec<&str> = study.as_array().unwrap().iter().map(|trial| trial["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["COMPLETE", "PRUNED", "FAIL"]);
        assert_eq!(study[0]["value"], -0.000_001_5);
        for (trial, theirs) in trials.iter().zip(study.as_array().unwrap()) {
            for (key, value) in &trial.parameters {
                let ours = if key == "mix" { value.to_string().into() } else { serde_json::to_value(value).unwrap() };
                assert_eq!(theirs["params"][key], ours, "{key}");
            }
        }
    }
}
