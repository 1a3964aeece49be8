//! The records of a run as tables: samples, configuration, environment, data, events and files.

use super::data::{ReportData, Sample, Setting, plain};
use super::html::{Html, all, el, folded, table_within, text};
use super::wording;
use crate::event::{Event, Level};

/// More samples than this are folded between the first and the newest.
const SAMPLES_SHOWN: usize = 5;
/// The most samples of a page.
const SAMPLES_KEPT: usize = 30;
/// The most markup of a table, in bytes.
const BUDGET: usize = 160_000;
/// The most lines of the environment.
const MOST_PAIRS: usize = 120;
/// The longest command, in characters.
const MAX_COMMAND_CHARS: usize = 2000;

/// What the model wrote at each evaluation.
pub(super) fn samples(data: &ReportData) -> Option<Html> {
    let sample = |sample: &Sample| {
        let step = el("p", "step", text(&format!("step {}", wording::count(sample.step))));
        let written = el("p", "written", all([el("span", "prompt", text(&sample.prompt)), text(&sample.text)]));
        el("article", "sample", all([step, written]))
    };
    let held = &data.happened.samples;
    // Evenly over the run, the first and the newest among them.
    let last = held.len().saturating_sub(1);
    let places = SAMPLES_KEPT.min(held.len());
    let chosen: Vec<&Sample> = (0..places).map(|idx| &held[if places > 1 { idx * last / (places - 1) } else { 0 }]).collect();
    let n_chosen = chosen.len();
    let mut left = BUDGET;
    let within = |(idx, made): (usize, Html)| {
        let rest = left.checked_sub(made.len());
        left = rest.unwrap_or(left);
        // The first and the newest are always shown.
        (rest.is_some() || idx == 0 || idx + 1 == n_chosen).then_some(made)
    };
    let samples: Vec<Html> = chosen.into_iter().map(sample).enumerate().filter_map(within).collect();
    if samples.is_empty() {
        return None;
    }
    let n_all = data.happened.n_samples;
    let rest =
        if n_all > samples.len() as u64 { format!(" {} of {} are shown.", samples.len(), wording::count(n_all)) } else { String::new() };
    let lede = el("p", "lede", text(&format!("The prompt is set in bold; the model wrote what follows.{rest}")));
    if samples.len() <= SAMPLES_SHOWN {
        return Some(all([lede, all(samples)]));
    }
    let n = samples.len();
    let mut samples = samples.into_iter();
    let first = all(samples.by_ref().take(2));
    let between = folded(&format!("{} samples between", n - 4), all(samples.by_ref().take(n - 4)));
    Some(all([lede, first, between, all(samples)]))
}

/// Every effective value, those that someone set first.
pub(super) fn configuration(data: &ReportData) -> Option<Html> {
    if data.settings.is_empty() {
        return None;
    }
    let row = |setting: &Setting| {
        let layer = if setting.layer.is_empty() { Html::default() } else { el("span", "chip", text(&setting.layer)) };
        vec![el("code", "", text(&setting.key)), el("code", "", text(&setting.value)), all([layer, text(&setting.place)])]
    };
    let columns = ["key", "value", "set by"];
    let is_chosen = |setting: &&Setting| ["file", "environment", "argument"].contains(&setting.layer.as_str());
    let chosen: Vec<Vec<Html>> = data.settings.iter().filter(is_chosen).map(row).collect();
    let chosen = if chosen.is_empty() {
        el("p", "lede", text("Nothing was set by a file, a variable or an argument: this is the default run."))
    } else {
        all([
            el("p", "lede", text("Set for this run by a file, a variable or an argument:")),
            table_within(BUDGET, "settings", &columns, chosen),
        ])
    };
    let n = data.settings.len();
    Some(all([
        chosen,
        folded(&format!("All {n} values"), table_within(BUDGET, "settings", &columns, data.settings.iter().map(row).collect())),
    ]))
}

/// The machine, the build and the command.
pub(super) fn environment(data: &ReportData) -> Option<Html> {
    let record = &data.record;
    let digest = |name: &str, digest: String| (name.to_owned(), digest);
    let mut rows = vec![
        ("command".to_owned(), wording::clipped(&record.argv.join(" "), MAX_COMMAND_CHARS)),
        digest("plan_digest", record.plan_digest.to_string()),
        digest("config_digest", record.config_digest.to_string()),
    ];
    rows.extend(record.binary_digest.map(|binary| digest("binary_digest", binary.to_string())));
    rows.push(("instruction_set".to_owned(), record.instruction_set.clone()));
    rows.extend(record.git_revision.clone().map(|revision| ("git_revision".to_owned(), revision)));
    let known: Vec<String> = rows.iter().map(|row| row.0.clone()).chain(["schema", "captured"].map(str::to_owned)).collect();
    rows.extend(data.environment.iter().filter(|(key, _)| !known.contains(key)).cloned());
    rows.retain(|row| !row.1.is_empty());
    let shown = |(key, value): &(String, String)| {
        let (key, value) = match (key.strip_suffix("_bytes"), value.parse::<f64>()) {
            (Some(key), Ok(bytes)) => (key, wording::bytes(bytes)),
            _ => (key.as_str(), value.clone()),
        };
        let name = key.strip_prefix("variables.").map_or_else(|| key.replace(['.', '_'], " "), str::to_owned);
        el("div", "", all([el("dt", "", text(&name)), el("dd", "", text(&value))]))
    };
    (!rows.is_empty()).then(|| el("dl", "pairs", all(rows.iter().take(MOST_PAIRS).map(shown))))
}

/// The forecast of the memory, what was measured, and what the allocation pool did.
pub(super) fn memory(data: &ReportData) -> Option<Html> {
    let memory = data.record.memory.as_ref()?;
    let total = memory.forecast.get("total").copied();
    let mut measured: Vec<(String, String)> = Vec::new();
    measured.extend(total.map(|total| ("forecast before the run".to_owned(), wording::bytes(total as f64))));
    measured.extend(memory.peak_resident.map(|peak| ("measured peak".to_owned(), wording::bytes(peak as f64))));
    if let (Some(total), Some(peak)) = (total, memory.peak_resident.filter(|&peak| peak > 0)) {
        measured.push(("forecast against measured".to_owned(), format!("{:+.1} %", 100.0 * (total as f64 / peak as f64 - 1.0))));
    }
    let words = |name: &str| name.replace('_', " ");
    let parts = memory.forecast.iter().filter(|(name, _)| *name != "total");
    let parts = parts.map(|(name, bytes)| (format!("forecast: {}", words(name)), wording::bytes(*bytes as f64)));
    let pool = memory.pool.iter().map(|(name, value)| {
        let value = if name.ends_with("_blocks") { wording::count(*value) } else { wording::bytes(*value as f64) };
        (format!("pool: {}", words(name)), value)
    });
    let shown = |(name, value): (String, String)| {
        el("div", "", all([el("dt", "", text(&wording::clipped(&name, 100))), el("dd", "", text(&value))]))
    };
    Some(el("dl", "pairs", all(measured.into_iter().chain(parts).chain(pool).take(MOST_PAIRS).map(shown))))
}

/// The files that were trained on.
pub(super) fn sources(data: &ReportData) -> Option<Html> {
    let row = |source: &crate::SourceChecksum| {
        let digest = el("code", "", text(&source.blake3.short())).with("title", &source.blake3.to_string());
        vec![
            el("code", "", text(&wording::clipped(&source.path, 300))),
            el("span", "number", text(&wording::bytes(source.bytes as f64))),
            digest,
        ]
    };
    let rows: Vec<Vec<Html>> = data.sources.iter().map(row).collect();
    (!rows.is_empty()).then(|| table_within(BUDGET, "sources", &["file", "size", "BLAKE3, first 12 digits"], rows))
}

/// What happened, samples apart.
pub(super) fn events(data: &ReportData) -> Option<Html> {
    let row = |event: &Event| {
        let level = match event.level {
            Level::Info => "level-info",
            Level::Warn => "level-warn",
            Level::Error => "level-error",
        };
        let fields: Vec<String> = event.fields.values().map(plain).collect();
        let chip = if event.kind == "degraded" { el("span", "chip off", text("off from here on")) } else { Html::default() };
        vec![
            el("time", "", text(&wording::short_moment(&event.ts))).with("datetime", &event.ts),
            el("span", level, text(&event.kind)),
            all([chip, text(&event.message), el("small", "", text(&fields.join("  ")))]),
        ]
    };
    let hidden = data.happened.n_earlier;
    let rows: Vec<Vec<Html>> = data.happened.events.iter().map(row).collect();
    if rows.is_empty() {
        return None;
    }
    let n = rows.len();
    let made = table_within(BUDGET, "events", &["time, UTC", "kind", "what happened"], rows);
    let made = if n > 14 { folded(&format!("{n} events"), made) } else { made };
    let rest = format!("{} earlier events are in events.ndjson.", wording::count(hidden));
    Some(if hidden > 0 { all([el("p", "lede", text(&rest)), made]) } else { made })
}

/// What is in the run folder.
pub(super) fn files(data: &ReportData) -> Option<Html> {
    let row = |(name, size): &(String, u64)| {
        let link = el("a", "", text(name)).with("href", &format!("./{}", percent_encoded(name)));
        vec![link, el("span", "number", text(&wording::bytes(*size as f64)))]
    };
    let is_top = |entry: &&(String, u64)| !entry.0.contains('/');
    let top: Vec<Vec<Html>> = data.files.iter().filter(is_top).map(row).collect();
    let below: Vec<Vec<Html>> = data.files.iter().filter(|entry| !is_top(entry)).map(row).collect();
    let columns = ["file", "size"];
    let n = below.len();
    let folder = (n > 0).then(|| folded(&format!("{n} files in folders"), table_within(BUDGET, "files", &columns, below)));
    (!top.is_empty()).then(|| all([table_within(BUDGET, "files", &columns, top), folder.unwrap_or_default()]))
}

/// A path as part of an address.
fn percent_encoded(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hold_no_special_character() {
        assert_eq!(percent_encoded("checkpoints/step 1/ä?.json"), "checkpoints/step%201/%C3%A4%3F.json");
    }
}
