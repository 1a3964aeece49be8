//! `bench safety`: scanning text for secrets and personal data, beside programs that search for as many patterns.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::comparison::{Better, Comparison, Measure};
use super::options::Safety;
use super::process::{self, Finished};
use super::report::Outcome;
use super::runner::{Job, Role, Sample, interleave};
use super::session::Session;
use super::text::{self, Text};

/// What `re_scan.py` prints.
#[derive(Deserialize)]
struct PeerLine {
    seconds: f64,
    matches: u64,
}

/// Measures, and sums up.
pub fn run(session: &Session, options: &Safety) -> Result<Outcome> {
    let text = text::write(&session.root, &session.folder.join("text/documents.txt"), options.megabytes)?;
    let rules = count_rules(session)?;
    let (patterns, n_patterns) = patterns(session, rules)?;
    let what = format!("scan of {:.1} MB of English, {rules} rules or {n_patterns} patterns", text.text_bytes as f64 / 1e6);
    let mut progress = session.progress(3 * session.rounds());
    let codex = Job::new(format!("codex safety scan, {rules} rules"), Role::Codex, |_| measure_codex(session, &text));
    let grep = Job::new(format!("grep -E -o, {n_patterns} patterns, LC_ALL=C"), Role::Peer, |_| measure_grep(session, &text, &patterns));
    let name = format!("Python re, {n_patterns} patterns in turn");
    let python = match session.python.missing(&[]) {
        Some(why) => Job::absent(name, Role::Peer, why),
        None => Job::new(name, Role::Peer, |_| measure_re(session, &text, &patterns)),
    };
    let sides = interleave(&what, session.rounds(), vec![codex, grep, python], &mut progress)?;
    let mut outcome = Outcome::default();
    outcome.add(Comparison::new(&Measure::new(what, "MB/s", Better::Higher), 0, &sides));
    let found: Vec<String> = sides
        .iter()
        .filter_map(|side| Some(format!("{} {}", side.name, side.samples.first()?.values.get(1).copied().flatten()?)))
        .collect();
    outcome.notes.push(format!("matches: {}", found.join("; ")));
    outcome.notes.push(
        "the peers search, they do not judge: the patterns (xtask/peers/patterns.txt) are as many as codex has rules and of the same kinds, without checksums, entropy or \
         context. codex and grep: the whole program. re: compiled patterns on text that is in memory"
            .to_owned(),
    );
    Ok(outcome)
}

fn count_rules(session: &Session) -> Result<usize> {
    let log = session.log("rules");
    let finished = process::run(session.program.command().args(["safety", "rules", "--json"]), &log)?;
    let rules: Vec<serde_json::Value> = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("cannot read what `codex-cli safety rules --json` wrote to `{}`", log.with_extension("out").display()))?;
    Ok(rules.len())
}

/// As many patterns as there are rules, or as many as there are patterns.
fn patterns(session: &Session, rules: usize) -> Result<(PathBuf, usize)> {
    let source = session.root.join("xtask/peers/patterns.txt");
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read `{}`", source.display()))?;
    let chosen: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).take(rules).collect();
    if chosen.is_empty() {
        bail!("`{}` has no pattern", source.display());
    }
    let path = session.folder.join("text/patterns.txt");
    super::write(&path, &format!("{}\n", chosen.join("\n")))?;
    Ok((path, chosen.len()))
}

fn measure_codex(session: &Session, text: &Text) -> Result<Sample> {
    let mut command = session.program.command();
    command.args(["safety", "scan", "--json"]).arg(&text.path);
    let finished = process::run(&mut command, &session.log("codex-scan"))?;
    let answer: serde_json::Value =
        serde_json::from_str(&finished.stdout).context("cannot read what `codex-cli safety scan --json` wrote")?;
    let matches = answer["findings"].as_array().map_or(0, Vec::len);
    Ok(sample(text, finished.seconds, matches as u64, &finished))
}

fn measure_grep(session: &Session, text: &Text, patterns: &Path) -> Result<Sample> {
    let mut grep = Command::new("grep");
    grep.env("LC_ALL", "C").args(["-E", "-o", "-f"]).arg(patterns).arg(&text.path);
    let (finished, status) = process::run_any(&mut grep, &session.log("grep"))?;
    // 1 means that nothing matched.
    if !matches!(status.code(), Some(0 | 1)) {
        bail!("`grep` ended with {status}: {}", finished.stderr.lines().next().unwrap_or_default());
    }
    Ok(sample(text, finished.seconds, finished.stdout.lines().count() as u64, &finished))
}

fn measure_re(session: &Session, text: &Text, patterns: &Path) -> Result<Sample> {
    let arguments = [&text.path, patterns].map(|path: &Path| path.display().to_string());
    let (finished, line) = session.python.run::<PeerLine>("re_scan.py", &arguments, &session.log("re"))?;
    Ok(sample(text, line.seconds, line.matches, &finished))
}

fn sample(text: &Text, seconds: f64, matches: u64, finished: &Finished) -> Sample {
    Sample::of(vec![Some(text.text_bytes as f64 / 1e6 / seconds), Some(matches as f64)], finished)
}
