//! The peers in Python: which packages are there, and a peer script run and its JSON line read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use super::process::{self, Finished};

/// Prints the versions of the packages it is given; one that is missing is left out. Nothing is imported.
const PROBE: &str = "import sys, json\nfrom importlib.metadata import version, PackageNotFoundError\nfound = {}\nfor name in sys.argv[1:]:\n    \
    try: found[name] = version(name)\n    except PackageNotFoundError: pass\nprint(json.dumps(found))";

/// Every package that some peer of a benchmark needs.
pub const PACKAGES: [&str; 6] = ["torch", "numpy", "transformers", "datasets", "tokenizers", "safetensors"];

/// A Python and what it has.
#[derive(Clone, Debug)]
pub struct Python {
    program: String,
    scripts: PathBuf,
    /// The installed packages with their versions.
    pub versions: BTreeMap<String, String>,
    /// Why it cannot be used at all.
    obstacle: Option<String>,
}

impl Python {
    /// Asks a Python which of these packages it has. The peer scripts are in `scripts`.
    pub fn probe(program: &str, packages: &[&str], scripts: &Path, log: &Path) -> Self {
        let asked = process::run(Command::new(program).args(["-c", PROBE]).args(packages), log)
            .and_then(|finished| serde_json::from_str(&finished.stdout).context("its answer is no JSON"));
        let (versions, obstacle) = match asked {
            Ok(versions) => (versions, None),
            Err(error) => {
                (BTreeMap::new(), Some(format!("`{program}` cannot be used ({error:#}): install Python 3, or name one with `--python`")))
            }
        };
        Self { program: program.to_owned(), scripts: scripts.to_owned(), versions, obstacle }
    }

    /// Which of these packages are missing, with the command that installs them; `None` when all are there.
    pub fn missing(&self, packages: &[&str]) -> Option<String> {
        if let Some(obstacle) = &self.obstacle {
            return Some(obstacle.lines().next().unwrap_or_default().to_owned());
        }
        let missing: Vec<&str> = packages.iter().copied().filter(|name| !self.versions.contains_key(*name)).collect();
        let names = missing.join(" ");
        (!missing.is_empty())
            .then(|| format!("no {} in `{}`: run `{} -m pip install {names}`", missing.join(", "), self.program, self.program))
    }

    /// A package with its version.
    pub fn name(&self, package: &str) -> String {
        self.versions
            .get(package)
            .map_or_else(|| package.to_owned(), |version| format!("{package} {}", version.split('+').next().unwrap_or(version)))
    }

    /// A command of this Python.
    pub fn command(&self) -> Command {
        Command::new(&self.program)
    }

    /// Runs a peer script to its end and reads its last JSON line.
    pub fn run<T: DeserializeOwned>(&self, script: &str, arguments: &[String], log: &Path) -> Result<(Finished, T)> {
        let path = self.scripts.join(script);
        let finished = process::run(self.command().arg(&path).args(arguments), log)?;
        let value = json_line(&finished.stdout).with_context(|| format!("`{}` did not say what was measured", path.display()))?;
        Ok((finished, value))
    }
}

/// The last line of a text that is a JSON object.
pub fn json_line<T: DeserializeOwned>(text: &str) -> Result<T> {
    let line = text.lines().rev().find(|line| line.starts_with('{')).context("no line of its output is a JSON object")?;
    serde_json::from_str(line).with_context(|| format!("cannot read `{line}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, PartialEq)]
    struct Line {
        parameters: u64,
        tokens_per_s_median: f64,
    }

    #[test]
    fn the_last_json_line_counts() {
        let text = "a warning\n{\"parameters\": 1, \"tokens_per_s_median\": 2.5}\n\
                    {\"peer\": \"torch 2.15.0\", \"parameters\": 13891584, \"tokens_per_s_median\": 2001.0, \"threads\": 2}\nbye\n";
        assert_eq!(json_line::<Line>(text).unwrap(), Line { parameters: 13_891_584, tokens_per_s_median: 2001.0 });
        assert!(json_line::<Line>("nothing\n").unwrap_err().to_string().contains("no line"));
        let error = json_line::<Line>("{\"parameters\": -1}\n").unwrap_err().to_string();
        assert_eq!(error, "cannot read `{\"parameters\": -1}`");
    }

    fn python(versions: &[(&str, &str)]) -> Python {
        let versions = versions.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
        Python { program: "python3".to_owned(), scripts: PathBuf::new(), versions, obstacle: None }
    }

    #[test]
    fn a_missing_package_is_named_with_what_installs_it() {
        let python = python(&[("torch", "2.15.0+cu132"), ("numpy", "2.1")]);
        assert_eq!(python.missing(&["torch", "numpy"]), None);
        let why = python.missing(&["torch", "transformers", "datasets"]).unwrap();
        assert_eq!(why, "no transformers, datasets in `python3`: run `python3 -m pip install transformers datasets`");
        assert_eq!([python.name("torch"), python.name("datasets")], ["torch 2.15.0", "datasets"]);
    }

    #[test]
    fn no_python_at_all_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let python = Python::probe("no-such-python", &PACKAGES, folder.path(), &folder.path().join("probe"));
        let why = python.missing(&["torch"]).unwrap();
        assert!(why.contains("`no-such-python` cannot be used") && why.contains("--python"), "{why}");
    }
}
