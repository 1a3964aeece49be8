//! A job array of Slurm (`sbatch --array`), in as many scripts as the cluster's largest array needs.
//!
//! Two minutes before a task's time is up Slurm signals its shell; the trial is asked to save and stop, and is put into the queue again, where it
//! goes on from its checkpoint.

use super::{Context, Launcher, RenderedFile, Task, path_of, words};
use crate::error::SweepError;
use crate::launcher_config::SlurmConfig;
use crate::quote;
use crate::sweep::Sweep;

pub(super) struct Slurm<'c>(pub(super) &'c SlurmConfig);

impl Slurm<'_> {
    /// The first index and the number of tasks of each script.
    fn chunks(&self, sweep: &Sweep) -> Vec<(usize, usize)> {
        let size = (self.0.max_array_size as usize).max(1);
        (0..sweep.n_trials()).step_by(size).map(|first| (first, size.min(sweep.n_trials() - first))).collect()
    }

    fn script(&self, sweep: &Sweep, context: &Context, first: usize, n: usize) -> Result<String, SweepError> {
        let config = self.0;
        let task = Task::new(&config.task, context);
        let at_a_time = config.max_parallel.unwrap_or(sweep.config().parallel as u64);
        let mut text = String::from("#!/bin/bash\n");
        let mut option = |name: &str, value: &str| text.push_str(&format!("#SBATCH --{name}={value}\n"));
        option("job-name", &sweep.folder_name());
        option("array", &format!("0-{}%{at_a_time}", n - 1));
        option("output", &log_path(&path_of(context, "slurm-%A_%a.log"))?);
        option("open-mode", "append");
        option("signal", &format!("B:USR1@{}", config.signal_seconds));
        let optional = [("partition", &config.partition), ("time", &config.time), ("gpus", &config.gpus), ("mem", &config.memory)];
        for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            option(name, value);
        }
        if let Some(cpus) = config.cpus {
            option("cpus-per-task", &cpus.to_string());
        }
        text.push_str("#SBATCH --requeue\n");
        for extra in &config.extra {
            text.push_str(&format!("#SBATCH {extra}\n"));
        }
        let shown = |argv: &[String]| argv.iter().map(|word| quote::shell(word)).collect::<Vec<_>>().join(" ");
        let after = if task.after.is_empty() { String::new() } else { format!(" {}", shown(&task.after)) };
        text.push_str(&format!(
            r#"
child=
early=
signalled=
pass_on() {{
  signalled=1
  if [ -n "$child" ]; then kill -"$1" "$child" 2>/dev/null; else early=$1; fi
}}
# Near the end of its time the trial is asked to save and to stop with the exit code 75.
trap 'pass_on USR2' USR1
trap 'pass_on TERM' TERM
cd -- {dir} || exit 5
index=$((SLURM_ARRAY_TASK_ID + {first}))
{before} "$index"{after} &
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
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$status"
"#,
            dir = quote::shell(&task.working_dir),
            before = shown(&task.before),
        ));
        Ok(text)
    }

    fn name_of_chunk(n: usize) -> String {
        format!("slurm-{n:02}.sbatch")
    }
}

impl Launcher for Slurm<'_> {
    fn name(&self) -> &'static str {
        "slurm"
    }

    fn render(&self, sweep: &Sweep, context: &Context) -> Result<Vec<RenderedFile>, SweepError> {
        let file = |(n, (first, count)): (usize, (usize, usize))| {
            Ok(RenderedFile { name: Self::name_of_chunk(n), text: self.script(sweep, context, first, count)? })
        };
        self.chunks(sweep).into_iter().enumerate().map(file).collect()
    }

    fn commands(&self, sweep: &Sweep, context: &Context) -> Result<Vec<Vec<String>>, SweepError> {
        log_path(&path_of(context, "slurm-%A_%a.log"))?;
        let command = |n| [words(&["sbatch", "--parsable"]), vec![path_of(context, &Self::name_of_chunk(n))]].concat();
        Ok((0..self.chunks(sweep).len()).map(command).collect())
    }
}

/// The path for a line of `#SBATCH`, which has its own rules of quoting: only what none of them reads is written there.
fn log_path(path: &str) -> Result<String, SweepError> {
    let fixed = path.strip_suffix("slurm-%A_%a.log").unwrap_or(path);
    if fixed.chars().all(quote::is_plain) {
        return Ok(path.to_owned());
    }
    let accepted = "letters, digits and `_-./:=@,+`";
    Err(SweepError::Unsafe { launcher: "slurm", what: "the folder of its logs", text: fixed.to_owned(), accepted })
}
