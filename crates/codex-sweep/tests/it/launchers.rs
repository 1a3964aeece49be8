//! What schedulers are given: golden texts, texts that try to break out, and fake schedulers that run what they are given.

use std::path::Path;
use std::process::Command;

use codex_core::{Failure as _, files};
use codex_sweep::Sweep;
use codex_sweep::launcher::{self, Context};

use crate::fakes::Fakes;

pub(crate) fn sweep(n: usize, launcher: &str) -> Sweep {
    let list = (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let text =
        format!("name = \"rates\"\nstrategy = \"grid\"\nmetric = \"loss\"\nparallel = 4\n[space]\na = [{list}]\n[launcher]\n{launcher}\n");
    Sweep::from_bytes(Path::new("s.toml"), text.into_bytes()).unwrap()
}

pub(crate) fn context() -> Context {
    Context {
        program: "codex-cli".to_owned(),
        sweep_file: "/shared/me/sweep.toml".to_owned(),
        working_dir: "/shared/me".to_owned(),
        launch_dir: "/shared/me/runs/rates-01234567/launch".to_owned(),
        arguments: Vec::new(),
    }
}

/// The texts that a sweep is rendered to, with the digest of its name taken out.
pub(crate) fn rendered(sweep: &Sweep, context: &Context) -> Vec<(String, String)> {
    let launcher = launcher::launcher(&sweep.config().launcher);
    let digest = sweep.digest().to_string()[..8].to_owned();
    launcher.render(sweep, context).unwrap().into_iter().map(|file| (file.name, file.text.replace(&digest, "DIGEST"))).collect()
}

pub(crate) fn commands(sweep: &Sweep, context: &Context) -> Vec<Vec<String>> {
    launcher::launcher(&sweep.config().launcher).commands(sweep, context).unwrap()
}

#[test]
fn the_script_of_slurm_is_this() {
    let sweep = sweep(
        12,
        "kind = \"slurm\"\npartition = \"gpu\"\ntime = \"04:00:00\"\ngpus = \"a100:1\"\ncpus = 8\nmemory = \"16G\"\nmax_parallel = 10\n\
         extra = [\"--account=lab\"]\narguments = [\"--device\", \"cuda\"]",
    );
    let [(name, text)] = rendered(&sweep, &context()).try_into().unwrap();
    assert_eq!(name, "slurm-00.sbatch");
    let expected = r#"#!/bin/bash
#SBATCH --job-name=rates-DIGEST
#SBATCH --array=0-11%10
#SBATCH --output=/shared/me/runs/rates-01234567/launch/slurm-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --partition=gpu
#SBATCH --time=04:00:00
#SBATCH --gpus=a100:1
#SBATCH --mem=16G
#SBATCH --cpus-per-task=8
#SBATCH --requeue
#SBATCH --account=lab

child=
early=
signalled=
pass_on() {
  signalled=1
  if [ -n "$child" ]; then kill -"$1" "$child" 2>/dev/null; else early=$1; fi
}
# Near the end of its time the trial is asked to save and to stop with the exit code 75.
trap 'pass_on USR2' USR1
trap 'pass_on TERM' TERM
cd -- /shared/me || exit 5
index=$((SLURM_ARRAY_TASK_ID + 0))
codex-cli train --sweep-file /shared/me/sweep.toml --index "$index" --device cuda &
child=$!
[ -z "$early" ] || pass_on "$early"
# A signal ends `wait`, not the trial. Bash keeps how a process ended, so that asking once too often gives the same.
while :; do
  signalled=
  wait "$child"
  status=$?
  [ -n "$signalled" ] || break
done
if [ "$status" -eq 75 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$status"
"#;
    assert_eq!(text, expected);
    assert_eq!(commands(&sweep, &context()), [["sbatch", "--parsable", "/shared/me/runs/rates-01234567/launch/slurm-00.sbatch"]]);
}

#[test]
fn more_tasks_than_an_array_holds_are_several_scripts() {
    let sweep = sweep(7, "kind = \"slurm\"\nmax_array_size = 3");
    let texts = rendered(&sweep, &context());
    let lines: Vec<Vec<&str>> = texts
        .iter()
        .map(|(_, text)| text.lines().filter(|line| line.contains("--array") || line.starts_with("index=")).collect())
        .collect();
    assert_eq!(
        lines,
        [
            ["#SBATCH --array=0-2%4", "index=$((SLURM_ARRAY_TASK_ID + 0))"],
            ["#SBATCH --array=0-2%4", "index=$((SLURM_ARRAY_TASK_ID + 3))"],
            ["#SBATCH --array=0-0%4", "index=$((SLURM_ARRAY_TASK_ID + 6))"],
        ]
    );
    assert_eq!(commands(&sweep, &context()).len(), 3);
}

pub(crate) const KUBERNETES: &str = "kind = \"kubernetes\"\nimage = \"registry.local/codex:1\"\nnamespace = \"lab\"\ncpus = \"4\"\nmemory = \"16Gi\"\ngpus = 1\n\
    retries = 2\nsweep_file = \"/runs/sweep.toml\"\nworking_dir = \"/runs\"\nvolumes = [{ claim = \"runs\", path = \"/runs\" }]";

#[test]
fn the_job_of_kubernetes_is_this() {
    let [(name, text)] = rendered(&sweep(12, KUBERNETES), &context()).try_into().unwrap();
    assert_eq!(name, "job.yaml");
    let expected = r#"apiVersion: batch/v1
kind: Job
metadata:
  name: "rates-DIGEST"
  namespace: "lab"
  labels:
    app.kubernetes.io/name: "codex-sweep"
spec:
  completionMode: Indexed
  completions: 12
  parallelism: 4
  backoffLimitPerIndex: 2
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
            status: "True"
      - action: FailIndex
        onExitCodes:
          containerName: trial
          operator: In
          values: [2]
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 120
      containers:
        - name: trial
          image: "registry.local/codex:1"
          workingDir: "/runs"
          command:
            - "codex-cli"
          args:
            - "train"
            - "--sweep-file"
            - "/runs/sweep.toml"
            - "--index"
            - "$(JOB_COMPLETION_INDEX)"
          resources:
            requests:
              cpu: "4"
              memory: "16Gi"
              nvidia.com/gpu: "1"
            limits:
              cpu: "4"
              memory: "16Gi"
              nvidia.com/gpu: "1"
          volumeMounts:
            - name: volume-0
              mountPath: "/runs"
      volumes:
        - name: volume-0
          persistentVolumeClaim:
            claimName: "runs"
"#;
    assert_eq!(text, expected);
    let launched = commands(&sweep(12, KUBERNETES), &context());
    assert_eq!(launched, [["kubectl", "apply", "-f", "/shared/me/runs/rates-01234567/launch/job.yaml"]]);
}

#[test]
fn the_jobs_of_ray_are_these() {
    let sweep = sweep(2, "kind = \"ray\"\naddress = \"http://head:8265\"\ncpus = 4\ngpus = 1\nmemory_bytes = 1000000");
    let [(name, text)] = rendered(&sweep, &context()).try_into().unwrap();
    assert_eq!(name, "ray-jobs.sh");
    let line = |index: usize| {
        format!(
            "ray job submit --no-wait --address http://head:8265 --entrypoint-num-cpus 4 --entrypoint-num-gpus 1 --entrypoint-memory 1000000 \
             -- env --chdir /shared/me codex-cli train --sweep-file /shared/me/sweep.toml --index {index}"
        )
    };
    assert_eq!(text, format!("#!/bin/sh\nset -e\n{}\n{}\n", line(0), line(1)));
    let launched = commands(&sweep, &context());
    assert_eq!(launched.iter().map(|argv| argv.join(" ")).collect::<Vec<_>>(), [line(0), line(1)]);
}

/// Texts that break out of careless quotes.
pub(crate) const NASTY: [&str; 12] = [
    "it's",
    "a b",
    "$(touch broken)",
    "`touch broken`",
    "a;touch broken",
    "a\"b",
    "a\\b",
    "#x",
    "${HOME}",
    "$(JOB_COMPLETION_INDEX)",
    "a\n#SBATCH --wrap=x\ntouch broken",
    "é: {x} & *y",
];

/// Asserts that each index was run once, with these words around it.
pub(crate) fn assert_each_once(calls: &[Vec<String>], n: usize, sweep_file: &str, after: &[&str]) {
    let expected: Vec<Vec<String>> = (0..n)
        .map(|index| {
            let index = index.to_string();
            ["train", "--sweep-file", sweep_file, "--index", &index].iter().chain(after).map(|word| (*word).to_owned()).collect()
        })
        .collect();
    assert_eq!(calls, expected);
}

/// `sbatch` that does what Slurm does with an array: it runs the script once for each index of `--array`.
const SBATCH: &str = r#"
for script; do :; done
echo "$script" >> sbatch.log
range=$(sed -n 's/^#SBATCH --array=\([0-9-]*\).*/\1/p' "$script")
for ((i = ${range%-*}; i <= ${range#*-}; i++)); do
  SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$i bash "$script" || exit
done
"#;

#[test]
fn a_fake_slurm_runs_each_index_once_whatever_the_paths_are() {
    for (n, size) in [(5, 1001), (7, 3)] {
        let fakes = Fakes::new();
        fakes.codex();
        fakes.program("sbatch", SBATCH);
        let sweep = sweep(n, &format!("kind = \"slurm\"\nmax_array_size = {size}"));
        let mut context = context();
        context.launch_dir = fakes.path("launch").display().to_string();
        context.working_dir = fakes.path("work dir's $(x)").display().to_string();
        files::create_dir_all(Path::new(&context.working_dir)).unwrap();
        context.sweep_file = NASTY.join("/");
        context.arguments = NASTY.map(str::to_owned).to_vec();
        let launcher = launcher::launcher(&sweep.config().launcher);
        let paths = launcher::write(&launcher.render(&sweep, &context).unwrap(), Path::new(&context.launch_dir)).unwrap();
        for path in &paths {
            let checked = Command::new("bash").arg("-n").arg(path).output().unwrap();
            assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
        }
        for argv in launcher.commands(&sweep, &context).unwrap() {
            let output = fakes.run(&argv);
            assert!(output.status.success(), "{output:?}");
        }
        assert_each_once(&fakes.calls(), n, &context.sweep_file, &NASTY);
        assert!(!fakes.path("broken").exists() && !Path::new(&context.working_dir).join("broken").exists());
    }
}

#[test]
fn slurms_signal_makes_a_trial_save_and_come_again() {
    let fakes = Fakes::new();
    // The trial says that it runs by opening the pipe, and exits with 75 when it is asked to save and stop.
    fakes.program("codex-cli", "trap 'echo saved > saved.log; exit 75' USR2\nexec 3<>never\necho up > up\nread -r line <&3\n");
    fakes.program("scontrol", "echo \"$@\" > scontrol.log\n");
    for pipe in ["up", "never"] {
        assert!(Command::new("mkfifo").arg(fakes.path(pipe)).status().unwrap().success());
    }
    let sweep = sweep(3, "kind = \"slurm\"");
    let mut context = context();
    context.working_dir = fakes.path("").display().to_string();
    let (_, script) = rendered(&sweep, &context).remove(0);
    files::write_atomic(&fakes.path("script"), script.as_bytes()).unwrap();
    let mut child = Command::new("bash")
        .arg(fakes.path("script"))
        .env("PATH", format!("{}:/usr/bin:/bin", fakes.path("").display()))
        .env("SLURM_ARRAY_JOB_ID", "77")
        .env("SLURM_ARRAY_TASK_ID", "2")
        .spawn()
        .unwrap();
    assert_eq!(files::read_to_string(&fakes.path("up")).unwrap(), "up\n");
    assert!(Command::new("kill").args(["-USR1", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert_eq!(files::read_to_string(&fakes.path("saved.log")).unwrap(), "saved\n");
    assert_eq!(files::read_to_string(&fakes.path("scontrol.log")).unwrap(), "requeue 77_2\n");
}

#[test]
fn logs_of_slurm_are_not_put_where_no_quotes_hold() {
    let sweep = sweep(2, "kind = \"slurm\"");
    for nasty in NASTY.iter().chain(&["a%b"]) {
        let context = Context { launch_dir: format!("/x/{nasty}"), ..context() };
        let launcher = launcher::launcher(&sweep.config().launcher);
        let error = launcher.render(&sweep, &context).unwrap_err();
        assert_eq!(error.exit_class().code(), 2, "{error}");
        assert!(launcher.commands(&sweep, &context).is_err(), "{nasty}");
    }
}

#[test]
fn a_fake_ray_runs_each_index_once_and_gets_no_word_that_a_shell_reads() {
    let fakes = Fakes::new();
    fakes.codex();
    // Ray hands the words behind `--` to a shell in one line.
    fakes.program(
        "ray",
        "[ \"$1 $2 $3\" = 'job submit --no-wait' ] || exit 9\nuntil [ \"$1\" = -- ]; do shift; done\nshift\nsh -c \"$*\"\n",
    );
    let sweep = sweep(5, "kind = \"ray\"\ngpus = 1");
    let context = Context { working_dir: fakes.path("").display().to_string(), arguments: vec!["--device=cuda".to_owned()], ..context() };
    for argv in commands(&sweep, &context) {
        assert!(fakes.run(&argv).status.success());
    }
    assert_each_once(&fakes.calls(), 5, &context.sweep_file, &["--device=cuda"]);
    let launcher = launcher::launcher(&sweep.config().launcher);
    for nasty in NASTY.iter().chain(&[""]) {
        for context in [
            Context { sweep_file: (*nasty).to_owned(), ..context.clone() },
            Context { working_dir: (*nasty).to_owned(), ..context.clone() },
            Context { arguments: vec![(*nasty).to_owned()], ..context.clone() },
        ] {
            assert_eq!(launcher.commands(&sweep, &context).unwrap_err().exit_class().code(), 2, "{nasty}");
            assert!(launcher.render(&sweep, &context).is_err(), "{nasty}");
        }
    }
}
