//! The job of Kubernetes, read by a YAML parser and by kubectl, and run by a stand-in.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use codex_core::files;
use codex_sweep::launcher::{self, Context};

use crate::absent;
use crate::fakes::Fakes;
use crate::launchers::{KUBERNETES, NASTY, assert_each_once, context, rendered, sweep};

/// The value of a YAML text as a YAML parser reads it, as JSON; `None` without Python's yaml.
fn by_python(text: &str) -> Option<serde_json::Value> {
    let mut child = Command::new("python3")
        .args(["-c", "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin.buffer))))"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("ModuleNotFoundError") {
        return None;
    }
    assert!(output.status.success(), "{said}");
    let mut documents: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(documents.len(), 1, "one document");
    documents.pop()
}

/// Each argument as Kubernetes expands it: `$$` is `$`, `$(NAME)` is the variable if it is set, else itself.
fn expanded(argument: &str, variables: &BTreeMap<&str, String>) -> String {
    let mut out = String::new();
    let mut rest = argument;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')')) {
            out.push_str(&variables.get(name).cloned().unwrap_or_else(|| format!("$({name})")));
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out + rest
}

#[test]
fn a_fake_kubernetes_runs_each_index_once_whatever_the_paths_are() {
    let fakes = Fakes::new();
    fakes.codex();
    fakes.program("kubectl", "printf '%s\\n' \"$@\" > kubectl.log\n");
    let sweep = sweep(4, "kind = \"kubernetes\"\nimage = \"codex:1\"\nvolumes = [{ claim = \"runs\", path = \"/a \\\" # {b}\" }]");
    let context = Context {
        launch_dir: fakes.path("launch").display().to_string(),
        sweep_file: NASTY.join("/"),
        working_dir: NASTY.concat(),
        arguments: NASTY.map(str::to_owned).to_vec(),
        ..context()
    };
    let launcher = launcher::launcher(&sweep.config().launcher);
    let paths = launcher::write(&launcher.render(&sweep, &context).unwrap(), Path::new(&context.launch_dir)).unwrap();
    let argv = launcher.commands(&sweep, &context).unwrap().remove(0);
    assert!(fakes.run(&argv).status.success());
    assert_eq!(files::read_to_string(&fakes.path("kubectl.log")).unwrap(), format!("apply\n-f\n{}\n", paths[0].display()));
    let text = files::read_to_string(&paths[0]).unwrap();
    let Some(job) = by_python(&text) else {
        absent::tell("Python's yaml, which reads the job of Kubernetes");
        return;
    };
    assert_eq!((&job["spec"]["completions"], &job["spec"]["completionMode"]), (&4.into(), &"Indexed".into()));
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["workingDir"], context.working_dir);
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/a \" # {b}");
    let of = |key: &str| container[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    for index in 0..4 {
        let variables = BTreeMap::from([("JOB_COMPLETION_INDEX", index.to_string()), ("HOME", "/root".to_owned())]);
        let argv: Vec<String> = of("command").iter().chain(&of("args")).map(|word| expanded(word, &variables)).collect();
        assert!(fakes.run(&argv).status.success());
    }
    assert_each_once(&fakes.calls(), 4, &context.sweep_file, &NASTY);
}

#[test]
fn kubectl_knows_every_field_of_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("job.yaml");
    let (_, text) = rendered(&sweep(12, KUBERNETES), &context()).remove(0);
    files::write_atomic(&path, text.replace("DIGEST", "01234567").as_bytes()).unwrap();
    let read = |file: &Path, image: &str| {
        Command::new("kubectl").args(["set", "image", "--local", "-o", "json", "-f"]).arg(file).arg(format!("trial={image}")).output()
    };
    let Ok(output) = read(&path, "other:2") else {
        absent::tell("kubectl, which knows the fields of a job");
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let job: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let spec = &job["spec"];
    // Fields that it does not know are not in its answer, since it holds the job as its own types.
    assert_eq!(spec["template"]["spec"]["containers"][0]["image"], "other:2");
    assert_eq!((&spec["completionMode"], &spec["backoffLimitPerIndex"]), (&"Indexed".into(), &2.into()));
    assert_eq!(spec["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["type"], "DisruptionTarget");
    assert_eq!(spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"][0], 2);
    let pod = &spec["template"]["spec"];
    assert_eq!((&pod["restartPolicy"], &pod["terminationGracePeriodSeconds"]), (&"Never".into(), &120.into()));
    assert_eq!(pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "1");
    assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], "runs");
    let strange = dir.path().join("strange.yaml");
    files::write_atomic(&strange, text.replace("backoffLimitPerIndex", "backoffLimitForIndex").as_bytes()).unwrap();
    let output = read(&strange, "other:2").unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("backoffLimit"), "the check has teeth: {output:?}");
}
