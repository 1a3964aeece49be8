//! Jobs of Ray (`ray job submit`), one for each trial; the cluster's resources decide how many run at a time.
//!
//! Ray joins the words of an entry point into one line for a shell, in some of its versions by the rules of Windows: only words that need no quotes
//! by any rule are handed to it.

use super::{Context, Launcher, RenderedFile, Task, words};
use crate::error::SweepError;
use crate::launcher_config::RayConfig;
use crate::quote;
use crate::sweep::Sweep;

pub(super) struct Ray<'c>(pub(super) &'c RayConfig);

impl Launcher for Ray<'_> {
    fn name(&self) -> &'static str {
        "ray"
    }

    /// The commands in a script, to be read or run by hand.
    fn render(&self, sweep: &Sweep, context: &Context) -> Result<Vec<RenderedFile>, SweepError> {
        let mut text = String::from("#!/bin/sh\nset -e\n");
        for argv in self.commands(sweep, context)? {
            let line: Vec<String> = argv.iter().map(|word| quote::shell(word)).collect();
            text.push_str(&line.join(" "));
            text.push('\n');
        }
        Ok(vec![RenderedFile { name: "ray-jobs.sh".to_owned(), text }])
    }

    fn commands(&self, sweep: &Sweep, context: &Context) -> Result<Vec<Vec<String>>, SweepError> {
        let config = self.0;
        let task = Task::new(&config.task, context);
        let mut submit = words(&["ray", "job", "submit", "--no-wait"]);
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                submit.extend([format!("--{name}"), value]);
            }
        };
        option("address", config.address.clone());
        option("entrypoint-num-cpus", config.cpus.map(|n| n.to_string()));
        option("entrypoint-num-gpus", config.gpus.map(|n| n.to_string()));
        option("entrypoint-memory", config.memory_bytes.map(|n| n.to_string()));
        submit.extend(words(&["--", "env", "--chdir"]));
        submit.push(task.working_dir.clone());
        let accepted = "letters, digits and `_-./:=@,+`";
        let all = task.argv("0");
        if let Some(bad) = all.iter().chain([&task.working_dir]).find(|word| word.is_empty() || !word.chars().all(quote::is_plain)) {
            return Err(SweepError::Unsafe { launcher: "ray", what: "the word", text: bad.clone(), accepted });
        }
        Ok((0..sweep.n_trials()).map(|index| [submit.clone(), task.argv(&index.to_string())].concat()).collect())
    }
}
