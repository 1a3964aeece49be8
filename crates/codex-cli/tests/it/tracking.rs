//! What a run leaves for other programs, for people, and for whoever looks at many runs.

use std::io::BufRead as _;

use codex_core::files;
use serde_json::Value;

use crate::harness::{Bench, all_files};

fn json_of(path: &std::path::Path) -> Value {
    serde_json::from_slice(&files::read(path).unwrap()).unwrap()
}

fn lines_of(path: &std::path::Path) -> Vec<Value> {
    files::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const ALL: &[&str] = &["track.mlflow=true", "track.wandb=true", "telemetry.every_seconds=0.1", "telemetry.prometheus_file=m.prom"];

#[test]
fn every_view_has_each_step_once_after_an_interruption() {
    let bench = Bench::with_text();
    let all = [ALL, &["train.steps=100", "checkpoint.keep_last=100"]].concat();
    let mut child = bench.spawn_train(&all);
    bench.wait_for(&mut child, 4);
    let status = || bench.json(&["runs", "list"])["runs"][0]["record"]["status"].as_str().unwrap().to_owned();
    assert_eq!(status(), "running");
    child.kill().unwrap();
    child.wait().unwrap();
    // Its record says "running" still; whoever looks is told that nobody works on it, and waits for nothing.
    assert_eq!(status(), "killed");
    assert_eq!(bench.json(&["runs", "list", "--status", "running"])["runs"], serde_json::json!([]));
    let told = bench.run(&["runs", "tail"]);
    assert!(told.out.contains("killed") && told.err.contains("goes on from the last save"), "{} {}", told.out, told.err);
    let gone_on = bench.train(&all);
    assert_eq!(gone_on.code, 0, "{}", gone_on.err);
    let run = bench.run_folder();
    let steps: Vec<u64> = lines_of(&run.join("metrics.ndjson"))
        .iter()
        .filter(|line| line["split"] == "train" && line["metric"] == "loss")
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (1..=100).collect::<Vec<_>>());
    let all = all_files(&run);
    let mlflow = all.iter().find(|path| path.ends_with("metrics/train/loss")).unwrap();
    let of_mlflow: Vec<u64> =
        files::read_to_string(mlflow).unwrap().lines().map(|line| line.split(' ').nth(2).unwrap().parse().unwrap()).collect();
    assert_eq!(of_mlflow, steps);
    let meta = all.iter().filter(|path| path.ends_with("meta.yaml")).map(|path| files::read_to_string(path).unwrap());
    assert!(meta.into_iter().any(|text| text.contains("status: 3")), "MLflow takes it for finished");
    // A file, or folder, for each process.
    let n_of = |part: &str, end: &str| {
        all.iter().filter(|path| path.to_string_lossy().contains(part) && path.to_string_lossy().ends_with(end)).count()
    };
    assert_eq!((n_of("/tensorboard/", ""), n_of("/wandb/", ".wandb")), (2, 2));
    let processes = lines_of(&run.join("environment.ndjson"));
    assert_eq!(processes.len(), 2);
    assert!(processes[0]["resumed_step"].is_null() && processes[1]["resumed_step"].as_u64() >= Some(4), "{processes:?}");
    let exposed = files::read_to_string(&bench.path("m.prom")).unwrap();
    assert!(exposed.contains("codex_train_step{") && exposed.contains("process_resident_memory_bytes"), "{exposed}");
    assert_eq!(bench.run(&["verify"]).code, 0);
}

#[test]
fn what_cannot_be_recorded_is_told_and_an_exit_code_when_that_is_asked_for() {
    let bench = Bench::with_text();
    bench.write("taken", "a file where a folder is wanted");
    let told = bench.train(&["--art-dir", "taken"]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert_eq!(told.err.matches("[telemetry] degraded: metrics folder").count(), 1, "{}", told.err);
    assert!(told.out.contains("not recorded metrics folder"), "{}", told.out);
    let events = lines_of(&bench.run_folder().join("events.ndjson"));
    assert_eq!(events.iter().filter(|event| event["kind"] == "degraded").count(), 1);
    let strict = bench.train(&["--fresh", "--strict-tracking", "--art-dir", "taken"]);
    assert_eq!(strict.code, 5, "{}", strict.err);
    assert!(strict.err.contains("the run is complete, but not all of it was recorded"), "{}", strict.err);
    let record = json_of(&bench.run_folder().join("run.json"));
    assert_eq!((record["status"].as_str(), record["step"].as_u64(), record["exit_code"].as_u64()), (Some("finished"), Some(12), Some(5)));
}

#[test]
fn what_is_not_there_is_one_line_and_only_when_it_was_asked_for() {
    let bench = Bench::with_text();
    let without = bench.train(&[]);
    assert!(!without.err.contains("[telemetry]"), "{}", without.err);
    // Where there is a GPU, this one is measured and nothing is amiss.
    let with = bench.train(&["--fresh", "telemetry.gpu=true"]);
    let statuses = json_of(&bench.run_folder().join("telemetry.json"));
    let gpu = statuses.as_array().unwrap().iter().find(|status| status["component"] == "gpu").unwrap();
    let n_lines = with.err.matches("[telemetry] degraded: gpu").count();
    assert_eq!(n_lines, usize::from(gpu["state"] == "degraded"), "{}", with.err);
    let doctor = bench.run(&["doctor"]).out;
    assert!(doctor.contains("telemetry gpu"), "{doctor}");
}

#[test]
fn what_is_switched_off_is_told_with_its_source_and_kept() {
    let bench = Bench::with_text();
    bench.write("run.toml", "[safety]\nsecrets = \"off\"\n");
    let answer = bench.train(&["--config", "run.toml"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("safety.secrets is off by configuration (run.toml:2)"), "{}", answer.err);
    let off: Vec<Value> =
        lines_of(&bench.run_folder().join("events.ndjson")).into_iter().filter(|event| event["kind"] == "switched_off").collect();
    assert_eq!((off.len(), off[0]["key"].as_str(), off[0]["by"].as_str()), (1, Some("safety.secrets"), Some("run.toml:2")));
    // A run that is taken up with less than it had says so once more.
    let longer = ["run.name=other", "train.steps=100", "checkpoint.keep_last=100"];
    let mut child = bench.spawn_train(&longer);
    bench.wait_for(&mut child, 4);
    child.kill().unwrap();
    child.wait().unwrap();
    let less = bench.train(&[&longer[..], &["telemetry.every_seconds=0"]].concat());
    assert!(less.err.contains("telemetry.every_seconds was on in this run so far"), "{}", less.err);
}

#[test]
fn a_profile_says_where_the_time_went_by_phase() {
    let bench = Bench::with_text();
    let answer = bench.train(&["--profile"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let run = bench.run_folder();
    let profile = json_of(&run.join("profile.json"));
    let phases: Vec<&str> = profile["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    for phase in ["data", "forward", "backward", "clipping", "optimizer", "validation", "save"] {
        assert!(phases.contains(&phase), "{phase}: {phases:?}");
        assert!(answer.err.contains(&format!(" {phase} ")), "{}", answer.err);
    }
    let count = |name: &str| profile["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == name).unwrap()["count"].clone();
    assert_eq!((count("forward"), count("validation")), (12.into(), 3.into()));
    let trace = json_of(&run.join("trace.json"));
    let spans = trace.as_array().unwrap().iter().filter(|event| event["ph"] == "X" && event["name"] == "forward").count();
    assert_eq!(spans, 12);
}

#[test]
fn phases_are_told_while_they_end_when_that_is_asked_for() {
    let bench = Bench::with_text();
    let told = bench.train(&["--verbose"]).err;
    for phase in ["data", "forward", "backward", "clipping", "optimizer"] {
        assert_eq!(told.matches(&format!(" {phase}: codex_train::step: close time.busy=")).count(), 12, "{phase}: {told}");
    }
    assert!(told.contains("codex_train::train: step step=12 loss="), "{told}");
    assert!(!bench.train(&["--fresh"]).err.contains("time.busy"));
}

#[test]
fn a_run_under_way_is_read_at_the_address_that_it_names() {
    let bench = Bench::with_text();
    let arguments = crate::harness::train_arguments(&["train.steps=3000", "telemetry.prometheus=127.0.0.1:0"]);
    let mut child = bench.command(&arguments).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let told = std::io::BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut told = told.filter_map(|line| line.strip_prefix("metrics for Prometheus at http://").map(str::to_owned));
    let address = told.next().expect("the address is told").strip_suffix("/metrics").unwrap().to_owned();
    let answer = loop {
        let ask = "exec 3<>/dev/tcp/${1%:*}/${1#*:}; printf 'GET /metrics HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n' \"$1\" >&3; cat <&3";
        let asked = std::process::Command::new("bash").args(["-c", ask, "bash", &address]).output().unwrap();
        let answer = String::from_utf8(asked.stdout).unwrap();
        // There is no step before the first.
        if answer.contains("codex_train_step{") {
            break answer;
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let run = bench.run_folder().file_name().unwrap().to_string_lossy().into_owned();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("codex_train_loss{{run=\"{run}\"}}")), "{answer}");
}

#[test]
fn runs_are_found_summed_up_ranked_named_and_removed() {
    let bench = Bench::with_text();
    assert_eq!(bench.train(&["run.name=first", "--tag", "kept", "--note", "before"]).code, 0);
    let first = bench.run_folder().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(bench.train(&["run.name=second", "train.learning_rate=1e-9"]).code, 0);
    let second = files::list_dir(&bench.path("runs")).unwrap().into_iter().find(|path| path.to_string_lossy().ends_with("second")).unwrap();
    let names = |arguments: &[&str]| -> Vec<String> {
        let found = bench.json(&[&["runs", "list"], arguments].concat());
        found["runs"].as_array().unwrap().iter().map(|run| run["record"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["--tag", "kept"]), ["first"]);
    assert!(bench.run(&["runs", "show", &format!("runs/{first}")]).out.contains("tags kept\nbefore\n"));
    assert_eq!(names(&["--sort", "validation/loss"]), ["first", "second"]);
    assert_eq!(names(&["--sort", "validation/loss", "--descending", "--limit", "1"]), ["second"]);
    assert_eq!(names(&["--name", "sec*"]), ["second"]);
    assert_eq!(names(&["--where", "validation/loss<0.1"]), [""; 0]);
    assert_eq!(bench.run(&["runs", "list", "--status", "done"]).code, 2);
    assert_eq!(bench.json(&["runs", "best"])["runs"][0]["name"], "first");

    let path = format!("runs/{first}");
    let noted = bench.json(&["runs", "note", &path, "--tag", "more", "--name", "the first", "--note", ""]);
    assert_eq!((noted["name"].as_str(), &noted["note"]), (Some("the first"), &Value::Null));
    assert_eq!(bench.run(&["verify", &path]).code, 0, "a note changes nothing that is proven");
    let summary = bench.json(&["runs", "summarize", &path]);
    let loss = summary["metrics"].as_array().unwrap().iter().find(|it| it["split"] == "train" && it["metric"] == "loss").unwrap();
    assert_eq!((loss["count"].as_u64(), loss["first_step"].as_u64(), loss["last_step"].as_u64()), (Some(12), Some(1), Some(12)));
    let csv = bench.run(&["runs", "summarize", &path, "--format", "csv"]).out;
    assert!(csv.starts_with("run_id,split,metric,dataset,count"), "{csv}");
    assert_eq!(bench.run(&["runs", "summarize", &path, "--format", "parquet"]).code, 2);
    let told = bench.run(&["runs", "tail", &path, "--once"]).out;
    assert!(told.contains("step 12 of 12") && told.contains("train/loss"), "{told}");
    let report = bench.json(&["runs", "report", &path]);
    let page = files::read_to_string(&bench.path(report["report"].as_str().unwrap())).unwrap();
    assert!(page.contains("the first") && page.contains("verified") && !page.contains("http://") && !page.contains("https://"));
    assert_eq!(bench.run(&["verify", &path]).code, 0, "another report changes nothing that is proven");

    let second = second.file_name().unwrap().to_string_lossy().into_owned();
    let other = format!("runs/{second}");
    let many = bench.run(&["runs", "compare", &path, &other, &path, "--page", "many.html"]);
    assert!(many.code == 0 && many.out.contains("train.learning_rate") && many.out.contains("curves of all: many.html"), "{}", many.out);
    assert!(files::size(&bench.path("many.html")).unwrap() > 1000);
    assert_eq!(bench.run(&["runs", "compare", &path, &other, "nowhere"]).code, 2);
    let written = bench.run(&["runs", "summarize", &path, &other, "--format", "json", "--out", "all.json"]);
    assert!(written.code == 0 && written.out.contains("series in all.json"), "{}", written.out);
    assert_eq!(bench.json(&["runs", "summarize", &path])["bad_lines"], 0);
    let table = bench.run(&["runs", "summarize", &path]).out;
    assert!(table.contains("at step") && table.contains("grad_norm"), "{table}");
    let elsewhere = bench.run(&["runs", "report", &path, "--out", "page.html"]);
    assert!(elsewhere.code == 0 && bench.path("page.html").exists(), "{}", elsewhere.err);
    assert_eq!(bench.run(&["runs", "best", "--metric", "validation/none"]).code, 2);
    assert_eq!(bench.run(&["runs", "best", "--metric", "validation/loss", "--goal", "least"]).code, 2);
    assert!(bench.run(&["runs", "best", "--ever", "--goal", "min"]).out.contains("first"));
    assert_eq!(bench.run(&["runs", "tail", &path, "--every", "0"]).code, 2);
    // A run that has ended is told once, also when it is followed.
    let told = bench.run(&["runs", "tail", &path]).out;
    assert_eq!(told.matches("step 12 of 12").count(), 1, "{told}");
    let items = bench.run(&["runs", "tail", &path, "--json"]).out;
    assert!(items.lines().count() > 50 && items.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    assert_eq!(bench.run(&["runs", "note", &path]).code, 2, "nothing to note");
    assert!(bench.run(&["runs", "note", &path, "--note", "shown"]).out.contains("shown"));
    assert!(bench.run(&["runs", "show", &path]).out.contains("tags kept more"));
    assert!(bench.run(&["runs", "list", "--folder", "runs"]).out.contains("kept more"));
    let gone = format!("runs/{second}");
    assert_eq!(bench.json(&["runs", "rm", &gone, "--dry-run"])["removed"], false);
    assert!(bench.path(&gone).exists());
    assert_eq!(bench.run(&["runs", "rm", &gone, "text.txt"]).code, 2, "what is no run stops all of it");
    assert!(bench.path(&gone).exists());
    assert_eq!(bench.json(&["runs", "rm", &gone])["removed"], true);
    assert!(!bench.path(&gone).exists() && bench.path(&path).exists());
}

#[test]
fn configurations_are_shown_compared_and_described() {
    let bench = Bench::with_text();
    let shown =
        bench.run(&["config", "show", "model=nano", "train.steps=3", "train.warmup_steps=1", "run.name='${model.d_model}-wide'"]).out;
    let table: toml::Table = shown.parse().unwrap();
    assert_eq!((table["train"]["steps"].as_integer(), table["run"]["name"].as_str()), (Some(3), Some("32-wide")));
    let sources = bench.run(&["config", "show", "--sources", "train.steps=3", "train.warmup_steps=1"]).out;
    assert!(sources.contains("argument `train.steps=3`"), "{sources}");
    bench.write("a.toml", "[train]\nsteps = 50\n");
    bench.write("b.toml", "[train]\nsteps = 50\nlearning_rate = 0.5\n");
    let found = bench.json(&["config", "diff", "a.toml", "b.toml"]);
    assert_eq!(found["differences"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["differences"][0]["second"]["source"]["line"], 3);
    assert_eq!(bench.json(&["config", "diff", "a.toml", "a.toml"])["same"], true);
    assert!(bench.run(&["config", "diff", "a.toml", "b.toml"]).out.contains("b.toml:3"));
    assert!(bench.run(&["config", "diff", "a.toml", "a.toml"]).out.contains("no difference"));
    let schema = bench.run(&["config", "schema", "--out", "schema.json"]);
    assert!(schema.out.contains("#:schema schema.json"), "{}", schema.out);
    assert!(files::size(&bench.path("schema.json")).unwrap() > 10_000);
    assert!(bench.run(&["config", "reference"]).out.contains("| `train.steps` |"));
    let pushed = bench.run(&["runs", "push", "runs/x", "--to", "http://127.0.0.1:9"]);
    assert!(pushed.code == 2 && pushed.err.contains("opens no connections"), "{}", pushed.err);
    let schema = bench.json(&["config", "schema"]);
    assert_eq!(schema["properties"]["train"]["properties"]["steps"]["type"], "integer");
    assert_eq!(schema["additionalProperties"], false);
    bench.write("bad.toml", "[train]\nstepz = 1\nbatch_size = \"x\"\n");
    let answer = bench.run(&["config", "check", "bad.toml"]);
    assert_eq!(answer.code, 2);
    for part in ["bad.toml:2: `train.stepz`: unknown key", "    2 | stepz = 1", "did you mean `train.steps`?", "bad.toml:3"] {
        assert!(answer.err.contains(part), "{part}: {}", answer.err);
    }
}
