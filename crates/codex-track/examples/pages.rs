//! Draws the pages of runs and of a made-up sweep: `cargo run -p codex-track --example pages -- FOLDER RUN…`.
//!
//! `FOLDER` gets `report-1.html` and `tail-1.txt` … of each run, `runs.html` of all of them, `summary.*` of their metrics, and `sweep.html` and `sweep.svg`.

use std::path::{Path, PathBuf};

use codex_core::{Stream, files};
use codex_track::report::sweep::{SweepAxes, SweepTrial, SweepValue, parallel_coordinates, sweep_page};
use codex_track::{Direction, RunDir, Tail, TailLayout, TailView, compare_many, planned_steps, report};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder, runs @ ..] = arguments.as_slice() else { return Err("give a folder and runs".into()) };
    draw(folder, runs)
}

/// Draws the pages of these runs into a folder.
pub(crate) fn draw(folder: &Path, runs: &[PathBuf]) -> Result<(), Box<dyn std::error::Error>> {
    files::create_dir_all(folder)?;
    let runs = runs.iter().map(|path| RunDir::open(path)).collect::<Result<Vec<_>, _>>()?;
    for (idx, run) in runs.iter().enumerate() {
        files::write_atomic(&folder.join(format!("report-{}.html", idx + 1)), report::render(run)?.as_bytes())?;
        files::write_atomic(&folder.join(format!("tail-{}.txt", idx + 1)), follow(run)?.as_bytes())?;
    }
    let configs = runs.iter().map(|run| config(run.path())).collect::<Result<Vec<_>, _>>()?;
    let (all, given): (Vec<&RunDir>, Vec<&serde_json::Value>) = (runs.iter().collect(), configs.iter().collect());
    let found = compare_many(&all, &given)?;
    files::write_atomic(&folder.join("runs.html"), report::render_many(&all, &found)?.as_bytes())?;
    let summaries = codex_track::summarize_metrics(&runs.iter().map(|run| run.path().to_owned()).collect::<Vec<_>>())?;
    files::write_atomic(&folder.join("summary.csv"), codex_track::summary_export::to_csv(&summaries)?.as_bytes())?;
    files::write_atomic(&folder.join("summary.json"), codex_track::summary_export::to_json(&summaries)?.as_bytes())?;
    #[cfg(feature = "parquet")]
    files::write_atomic(&folder.join("summary.parquet"), &codex_track::summary_export::to_parquet(&summaries)?)?;
    let (axes, trials) = sweep();
    files::write_atomic(&folder.join("sweep.html"), sweep_page("learning rate and depth", &axes, &trials).as_bytes())?;
    files::write_atomic(&folder.join("sweep.svg"), parallel_coordinates(&axes, &trials).as_bytes())?;
    Ok(())
}

/// The configuration of a run as JSON.
fn config(run: &Path) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let table: toml::Table = files::read_to_string(&run.join("config.resolved.toml"))?.parse()?;
    Ok(serde_json::to_value(table)?)
}

/// A run as `tail` shows it.
fn follow(run: &RunDir) -> Result<String, codex_track::TrackError> {
    let (mut tail, mut view) = (Tail::open(run.path())?, TailView::default());
    loop {
        view.add(tail.poll()?);
        if !tail.is_behind() {
            break;
        }
    }
    let name = run.id();
    Ok(view.render(&name, "finished", planned_steps(run), &TailLayout::default()))
}

/// Forty trials of a loss with its best in the middle.
fn sweep() -> (SweepAxes, Vec<SweepTrial>) {
    let parameters = ["train.learning_rate", "train.optimizer", "model.n_layers", "train.batch_size", "train.weight_decay"];
    let axes = SweepAxes {
        parameters: parameters.map(str::to_owned).to_vec(),
        log_parameters: Vec::new(),
        metric: "validation/loss".to_owned(),
        direction: Direction::Min,
    };
    let trials = (0..40_u64).map(|idx| {
        let mut stream = Stream::new(7, "sweep", idx);
        let rate = 10_f64.powf(-5.0 + 3.5 * stream.uniform());
        let optimizer = ["adamw", "muon", "lion"][(stream.uniform() * 3.0) as usize];
        let layers = (2.0 + 6.0 * stream.uniform()).round();
        let batch = [8.0, 16.0, 32.0][(stream.uniform() * 3.0) as usize];
        let decay = stream.uniform() * 0.2;
        let loss =
            3.2 + 0.5 * (rate.log10() + 3.0).powi(2) - 0.06 * layers + 0.2 * stream.uniform() + if optimizer == "lion" { 0.3 } else { 0.0 };
        let failed = idx % 13 == 5;
        SweepTrial {
            name: format!("trial-{idx}"),
            state: if failed { "failed" } else { "finished" }.to_owned(),
            values: vec![
                SweepValue::Number(rate),
                SweepValue::Category(optimizer.to_owned()),
                SweepValue::Number(layers),
                SweepValue::Number(batch),
                SweepValue::Number(decay),
            ],
            metric: (!failed).then_some(loss),
        }
    });
    (axes, trials.collect())
}
