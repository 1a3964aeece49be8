//! The examples, run as they stand: the scripts in `xtask/interop` read what they make.

use codex_core::files;
use codex_track::{RunDir, summarize};

#[path = "../../examples/exposed_run.rs"]
#[expect(dead_code, reason = "its `main` is for the command line")]
mod exposed_run;
#[path = "../../examples/many_runs.rs"]
#[expect(dead_code, reason = "its `main` is for the command line")]
mod many_runs;
#[path = "../../examples/pages.rs"]
#[expect(dead_code, reason = "its `main` is for the command line")]
mod pages;
#[path = "../../examples/tracked_run.rs"]
#[expect(dead_code, reason = "its `main` is for the command line")]
mod tracked_run;

#[test]
fn a_tracked_run_has_every_step_once_and_its_pages_can_be_drawn() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    tracked_run::make(&path).unwrap();
    assert!(tracked_run::make(&path).is_err(), "the folder is not new");
    let found = summarize(&RunDir::open(&path).unwrap()).unwrap();
    let loss = found.metrics.iter().find(|it| it.split == "train" && it.metric == "loss").unwrap();
    assert_eq!((loss.count, loss.first_step, loss.last_step, found.bad_lines), (3000, 1, 3000, 0));
    let pages = root.path().join("pages");
    pages::draw(&pages, &[path.clone(), path.clone()]).unwrap();
    for name in ["report-1.html", "tail-2.txt", "runs.html", "summary.csv", "summary.json", "sweep.html", "sweep.svg"] {
        assert!(files::size(&pages.join(name)).unwrap() > 100, "{name}");
    }
    let many = root.path().join("many");
    many_runs::list(&many, 25, &path.join("run.json")).unwrap();
    assert!(files::read_to_string(&many.with_extension("txt")).unwrap().starts_with("25 runs listed in "));
}

#[test]
fn a_small_run_is_shown_to_prometheus_and_traced() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("run.prom");
    let arguments = [root.path().display().to_string(), "127.0.0.1:0".to_owned(), file.display().to_string()];
    exposed_run::serve(&arguments, &mut std::io::empty()).unwrap();
    let text = files::read_to_string(&file).unwrap();
    for name in ["codex_train_step{", "codex_validation_loss{", "codex_checkpoints_total{", "process_threads{"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(exposed_run::serve(&arguments[..1], &mut std::io::empty()).is_err());
    let far = [arguments[0].clone(), "0.0.0.0:0".to_owned()];
    assert!(exposed_run::serve(&far, &mut std::io::empty()).unwrap_err().to_string().contains("other machines"));
    let run = files::list_dir(root.path()).unwrap().into_iter().find(|path| path.join("time.txt").exists()).unwrap();
    let trace: serde_json::Value = serde_json::from_slice(&files::read(&run.join("trace.json")).unwrap()).unwrap();
    assert!(trace.as_array().unwrap().len() > 1000);
}
