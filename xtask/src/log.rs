//! The log of one step: everything its commands write, with a sign of life on the terminal while they run.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

const POLL: Duration = Duration::from_millis(50);
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// A log file that commands append to.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// Starts an empty log.
    pub fn create(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        fs::write(path, "").with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Adds a line.
    pub fn line(&self, text: &str) -> Result<()> {
        writeln!(self.append()?, "{text}").with_context(|| format!("cannot write `{}`", self.path.display()))
    }

    /// Runs a command to its end; stdout and stderr go to the log. An error says how it ended.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        let status = self.status(command)?;
        succeeded(command, status)
    }

    /// Runs a command to its end, whatever that is; stdout and stderr go to the log.
    pub fn status(&self, command: &mut Command) -> Result<ExitStatus> {
        self.line(&format!("$ {}", spell(command)))?;
        let output = self.append()?;
        command.stdout(output.try_clone()?).stderr(output);
        self.wait(command)
    }

    /// Runs a command to its end and returns its stdout; stderr goes to the log.
    pub fn capture(&self, command: &mut Command, stdout: &Path) -> Result<String> {
        self.line(&format!("$ {} > {}", spell(command), stdout.display()))?;
        let output = File::create(stdout).with_context(|| format!("cannot write `{}`", stdout.display()))?;
        command.stdout(output).stderr(self.append()?);
        let status = self.wait(command)?;
        succeeded(command, status)?;
        fs::read_to_string(stdout).with_context(|| format!("cannot read `{}`", stdout.display()))
    }

    /// The whole log so far.
    pub fn text(&self) -> String {
        fs::read(&self.path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn append(&self) -> Result<File> {
        File::options().append(true).open(&self.path).with_context(|| format!("cannot write `{}`", self.path.display()))
    }

    fn wait(&self, command: &mut Command) -> Result<ExitStatus> {
        let program = command.get_program().to_string_lossy().into_owned();
        let start = Instant::now();
        let mut next_sign = SIGN_OF_LIFE;
        let mut child = command.spawn().with_context(|| format!("cannot start `{program}`"))?;
        loop {
            if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for `{program}`"))? {
                return Ok(status);
            }
            if start.elapsed() >= next_sign {
                println!("    {:4.0} s  {}", start.elapsed().as_secs_f64(), last_line(&self.text()));
                next_sign += SIGN_OF_LIFE;
            }
            sleep(POLL);
        }
    }
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` ended with {status}", spell(command));
    }
    Ok(())
}

/// A command as it could be typed, its environment left out.
pub fn spell(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut spelled = program;
    for argument in command.get_args() {
        spelled.push(' ');
        let argument = argument.to_string_lossy();
        if argument.contains([' ', '"', '$']) {
            spelled.extend(["'", &argument, "'"]);
        } else {
            spelled.push_str(&argument);
        }
    }
    spelled
}

fn last_line(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim().chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_leaves_its_output_and_its_end_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(&folder.path().join("gate/fmt.log")).unwrap();
        log.run(Command::new("sh").args(["-c", "echo out; echo err >&2"])).unwrap();
        let error = log.run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert_eq!(error, "`sh -c 'exit 3'` ended with exit status: 3");
        assert_eq!(log.text(), "$ sh -c 'echo out; echo err >&2'\nout\nerr\n$ sh -c 'exit 3'\n");
        let error = log.run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-program-here`");
    }

    #[test]
    fn captured_output_is_returned_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(&folder.path().join("a.log")).unwrap();
        let kept = folder.path().join("out");
        assert_eq!(log.capture(Command::new("sh").args(["-c", "echo out; echo err >&2"]), &kept).unwrap(), "out\n");
        assert!(log.text().ends_with("\nerr\n"));
        assert_eq!(fs::read_to_string(kept).unwrap(), "out\n");
    }

    #[test]
    fn the_sign_of_life_is_the_last_line_that_says_something() {
        assert_eq!(last_line("a\n  Compiling b v1\n\n"), "Compiling b v1");
        assert_eq!(last_line(""), "");
    }
}
