//! `report.html`: a run in one page that needs no server, no network and no script. Every number in it is read from the run's files.

mod axis;
mod chart;
mod comparison;
mod curve_store;
mod curves;
mod data;
mod header;
mod html;
mod records;
mod state;
mod streams;
pub mod sweep;
mod many;
mod palette;
pub(crate) mod wording;

use std::path::PathBuf;

use crate::error::TrackError;
use crate::run_dir::RunDir;
use crate::verdict::VerifyRecord;
pub use comparison::render_comparison;
use data::ReportData;
use html::{Html, all, el, text};
pub use many::render_many;

/// The file's name.
pub const FILE: &str = "report.html";

/// The most notes of a page.
const MAX_NOTES: usize = 40;

const STYLE: &str = include_str!("report/report.css");

/// What is handed in to a report.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReportOptions<'a> {
    /// What `verify` has just found; without it, what it found last, as [`VerifyRecord`] is kept in the run's folder.
    pub verdict: Option<&'a VerifyRecord>,
}

/// The page of a run as it stands. Only `run.json` must be there; what else is missing or unreadable is left out and said so.
///
/// # Errors
/// A run whose record cannot be read.
pub fn render(run: &RunDir) -> Result<String, TrackError> {
    render_with(run, ReportOptions::default())
}

/// Like [`render`], with what is handed in. The page stays below two megabytes however long the run was: curves keep their least and greatest values, long
/// tables their first rows.
///
/// # Errors
/// A run whose record cannot be read.
pub fn render_with(run: &RunDir, options: ReportOptions<'_>) -> Result<String, TrackError> {
    let data = ReportData::read(run, options)?;
    let sections = [
        ("result", "Result", header::cards(&data)),
        ("curves", "Curves", curves::figures(&data)),
        ("validation", "Validation sets", state::validation_sets(&data)),
        ("samples", "Samples over time", records::samples(&data)),
        ("configuration", "Configuration", records::configuration(&data)),
        ("checkpoints", "Checkpoints", state::checkpoints(&data)),
        ("memory", "Memory", records::memory(&data)),
        ("environment", "Environment", records::environment(&data)),
        ("data", "Data", state::data_of(&data, records::sources(&data))),
        ("events", "Events", records::events(&data)),
        ("telemetry", "Telemetry", state::telemetry(&data)),
        ("verification", "Verification", Some(state::verification(&data))),
        ("files", "Files", records::files(&data)),
    ];
    let shown: Vec<_> = sections.into_iter().filter_map(|(id, title, content)| Some((id, title, content?))).collect();
    let links = all(shown.iter().map(|(id, title, _)| el("a", "", text(title)).with("href", &format!("#{id}"))));
    let body = all([
        header::masthead(&data),
        el("nav", "contents", links).with("aria-label", "Contents"),
        all(shown.into_iter().map(|(id, title, content)| el("section", "", all([el("h2", "", text(title)), content])).with("id", id))),
        notes(&data),
        el("footer", "", text("Drawn by codex from the files listed above. This page holds no script and loads nothing.")),
    ]);
    Ok(page(&format!("{} · codex", wording::clipped(&data.record.name, 200)), body))
}

/// A page with the style of all.
fn page(title: &str, body: Html) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n{}\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}\n</main>\n</body>\n</html>\n",
        el("title", "", text(title)).into_string(),
        body.into_string(),
    )
}

/// Publishes the page in the run folder and returns its path.
///
/// # Errors
/// A run whose record cannot be read, and a folder that cannot be written.
pub fn write(run: &RunDir) -> Result<PathBuf, TrackError> {
    run.write_text(FILE, &render(run)?)?;
    Ok(run.path().join(FILE))
}

fn notes(data: &ReportData) -> Html {
    if data.notes.is_empty() {
        return Html::default();
    }
    let items = all(data.notes.iter().take(MAX_NOTES).map(|note| el("li", "", text(&wording::clipped(note, 400)))));
    el("aside", "notes", all([el("strong", "", text("What this page leaves out")), el("ul", "", items)]))
}
