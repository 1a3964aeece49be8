//! Makes some thousand runs and writes to `FOLDER.txt` how long listing them takes:
//! `cargo run -p codex-track --example many_runs -- FOLDER 5000 RUN.JSON`.

use std::path::{Path, PathBuf};

use codex_core::{Clock, SystemClock, files};
use codex_track::{RunFilter, RunOrder, list_runs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, n, record] = arguments.as_slice() else { return Err("give a folder, a number and a run.json".into()) };
    list(&PathBuf::from(folder), n.parse::<usize>()?, record.as_ref())
}

/// Makes `n` runs with this record in a folder, and lists them.
pub(crate) fn list(folder: &Path, n: usize, record: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let record = files::read(record)?;
    for idx in 0..n {
        let run = folder.join(format!("20260101-{idx:06}-many"));
        if !run.exists() {
            files::create_dir_all(&run)?;
            files::write_atomic(&run.join("run.json"), &record)?;
        }
    }
    let clock = SystemClock::new();
    let mut told = String::new();
    for _ in 0..3 {
        let start = clock.elapsed_seconds();
        let runs = list_runs(folder)?;
        let listed = clock.elapsed_seconds();
        let filter = RunFilter { sort: Some(RunOrder::Metric("validation/loss".to_owned())), limit: Some(20), ..RunFilter::default() };
        let n = runs.len();
        let kept = filter.apply(runs).len();
        let end = clock.elapsed_seconds();
        told.push_str(&format!("{n} runs listed in {:.3} s, {kept} chosen in {:.3} s\n", listed - start, end - listed));
    }
    Ok(files::write_atomic(&folder.with_extension("txt"), told.as_bytes())?)
}
