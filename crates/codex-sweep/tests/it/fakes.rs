//! Programs that note what they are given, in a folder that is first on the PATH.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use codex_core::files;

/// A folder with programs of that name which note what they are given: their arguments, one a line and a `--` behind the last.
pub(crate) struct Fakes(tempfile::TempDir);

impl Fakes {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn program(&self, name: &str, body: &str) {
        // Written by another process: a file that this one has open for writing, a thread that forks keeps open for a moment, and nobody can run it.
        let mut writer =
            Command::new("sh").args(["-c", "cat > \"$0\" && chmod +x \"$0\""]).arg(self.path(name)).stdin(Stdio::piped()).spawn().unwrap();
        writer.stdin.take().unwrap().write_all(format!("#!/bin/bash\n{body}").as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
    }

    /// `codex-cli` that notes its arguments, `\0` behind each and `\n` behind the last: each process in a file of its own, since the shell writes a call in
    /// several pieces and calls at the same time would mix theirs.
    pub(crate) fn codex(&self) {
        self.program("codex-cli", &format!("{{ printf '%s\\0' \"$@\"; printf '\\n'; }} >> {}/codex.$$.log\n", self.0.path().display()));
    }

    pub(crate) fn run(&self, argv: &[String]) -> std::process::Output {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env("PATH", path).current_dir(self.0.path()).stdin(Stdio::null()).output().unwrap()
    }

    /// The noted calls of `codex-cli`, sorted by index; each is checked to be a call of `train`.
    pub(crate) fn calls(&self) -> Vec<Vec<String>> {
        let noted = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("codex.") && path.is_file());
        let logs = files::list_dir(self.0.path()).unwrap().into_iter().filter(noted);
        let text: String = logs.map(|path| files::read_to_string(&path).unwrap()).collect();
        let mut calls: Vec<Vec<String>> =
            text.split("\0\n").filter(|call| !call.is_empty()).map(|call| call.split('\0').map(str::to_owned).collect()).collect();
        calls.sort_by_key(|call| call.get(4).and_then(|index| index.parse::<usize>().ok()));
        calls
    }
}
