//! `cargo xtask bench`: codex and its peers measured side by side, in turns, on one machine. It measures whole programs from outside, and asserts nothing.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal: results on one, progress on the other")]

pub mod checkpoint;
pub mod comparison;
pub mod data;
pub mod data_room;
pub mod generate;
pub mod kernels;
pub mod machine;
pub mod options;
pub mod picture;
pub mod process;
pub mod program;
pub mod python;
pub mod record;
pub mod report;
pub mod run_files;
pub mod runner;
pub mod safety;
pub mod scaling;
pub mod session;
pub mod shape;
pub mod start;
pub mod statistics;
pub mod stored_model;
pub mod table;
pub mod text;
pub mod train;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;
use options::Bench;
use program::Program;
use python::Python;
use report::{Beginning, Report};
use session::Session;

/// Runs a benchmark, prints its tables, and writes its JSON and its picture; with `--record` also into docs.
pub fn run(workspace: &Workspace, bench: &Bench) -> Result<()> {
    let shared = bench.shared();
    let folder = workspace.target.join("bench");
    let program = Program::find(workspace, shared.bin.as_deref(), &folder, &mut say)?;
    let scripts = workspace.root.join("xtask/peers");
    let python = Python::probe(&shared.python, &python::PACKAGES, &scripts, &folder.join("logs/python"));
    let session = Session { program, python, folder, root: workspace.root.clone(), shared: shared.clone(), name: bench.name() };
    let beginning = Beginning::now();
    let outcome = match bench {
        Bench::Train(options) => train::run(&session, options)?,
        Bench::Generate(options) => generate::run(&session, options)?,
        Bench::Data(options) => data::run(&session, workspace, options)?,
        Bench::Checkpoint(options) => checkpoint::run(&session, options)?,
        Bench::Safety(options) => safety::run(&session, options)?,
        Bench::Start(options) => start::run(&session, options)?,
        Bench::Scaling(options) => scaling::run(&session, options)?,
        Bench::Kernels(options) => kernels::run(&session, workspace, options)?,
    };
    let report = Report::new(&session, &beginning, outcome);
    let json = format!("{}\n", serde_json::to_string_pretty(&report).context("cannot write the result as JSON")?);
    let is_disturbed = report.outcome.comparisons.iter().any(comparison::Comparison::is_disturbed);
    let busy = if is_disturbed { ", on a machine that was busy" } else { "" };
    let title = format!("cargo xtask bench {} at {}{busy}", report.bench, report.commit);
    let svg = picture::svg(&title, &report.outcome.charts())?;
    let own = session.folder.join(format!("{}.json", report.bench));
    for path in [Some(&own), shared.json.as_ref()].into_iter().flatten() {
        write(path, &json)?;
    }
    let picture = session.folder.join(format!("{}.svg", report.bench));
    write(&picture, &svg)?;
    println!("\n{}", report.text());
    println!("{}\n{}", own.display(), picture.display());
    match png(&picture, &session) {
        Ok(path) => println!("{path}"),
        Err(error) => println!("no PNG: {error:#}"),
    }
    if shared.record {
        let began: String = report.began.chars().filter(char::is_ascii_digit).collect();
        let name = format!("{}-{began}.svg", report.bench);
        for path in record::keep(&session.root, &name, &svg, &|link| report.markdown(link))? {
            println!("{}", path.display());
        }
    }
    let is_measured = report.outcome.tables.iter().any(|table| !table.rows.is_empty());
    let codex = report.outcome.comparisons.iter().flat_map(|comparison| &comparison.sides).filter(|side| side.role == runner::Role::Codex);
    if !is_measured || codex.clone().count() > 0 && codex.clone().all(|side| side.summary.is_none()) {
        bail!("codex was not measured: see above");
    }
    Ok(())
}

/// A line on stderr.
fn say(line: &str) {
    eprintln!("bench: {line}");
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

/// The picture as PNG, drawn by librsvg.
fn png(svg: &Path, session: &Session) -> Result<String> {
    let png = svg.with_extension("png");
    let mut convert = Command::new("rsvg-convert");
    convert.arg("--output").arg(&png).arg(svg);
    process::run(&mut convert, &session.log("rsvg-convert")).context("install it with `apt-get install librsvg2-bin`")?;
    Ok(png.display().to_string())
}
