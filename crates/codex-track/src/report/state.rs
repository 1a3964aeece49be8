//! Sections on what the run left: its validation sets, checkpoints, the data's size, what kept its measurements, and whether it is still what it was.

use super::data::{Checkpoint, ReportData};
use super::html::{Html, all, el, table_within, text};
use super::wording;

/// The most markup of a table, in bytes.
const BUDGET: usize = 80_000;

/// The validation sets that have a name, each with its last evaluation and its best loss.
pub(super) fn validation_sets(data: &ReportData) -> Option<Html> {
    let sets = data.validation_sets();
    if sets.is_empty() {
        return None;
    }
    let row = |(name, split): (String, String)| {
        let last = |metric: &str| data.newest(&split, metric);
        let number = |value: Option<f64>| el("span", "number", text(&value.map_or_else(|| "-".to_owned(), wording::value)));
        let losses = data.series(&split, "loss").iter().filter(|point| point.1.is_finite());
        let best = losses.fold(None, |best: Option<(f64, f64)>, &point| best.filter(|best| best.1 <= point.1).or(Some(point)));
        let best = best
            .map_or_else(|| "-".to_owned(), |(step, value)| format!("{} at step {}", wording::value(value), wording::count(step as u64)));
        let accuracy = last("token_accuracy").map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        vec![
            text(&name),
            number(last("loss")),
            el("span", "number", text(&best)),
            number(last("perplexity")),
            number(last("bits_per_byte")),
            el("span", "number", text(&accuracy)),
        ]
    };
    let main = data.curve("validation", "loss").map(|_| ("all together".to_owned(), "validation".to_owned()));
    let named = sets.into_iter().map(|set| (wording::clipped(set, 80), format!("validation/{set}")));
    let columns = ["set", "last loss", "best loss", "perplexity", "bits per byte", "token accuracy"];
    Some(table_within(BUDGET, "numbers", &columns, main.into_iter().chain(named).map(row).collect()))
}

/// The checkpoints that are kept.
pub(super) fn checkpoints(data: &ReportData) -> Option<Html> {
    let row = |checkpoint: &Checkpoint| {
        let marks = all(checkpoint.marks.iter().map(|mark| el("span", "chip", text(&wording::clipped(mark, 80)))));
        vec![
            el("span", "number", text(&wording::count(checkpoint.step))),
            el("code", "", text(&format!("checkpoints/{}", wording::clipped(&checkpoint.folder, 80)))),
            el("span", "number", text(&wording::bytes(checkpoint.bytes as f64))),
            marks,
        ]
    };
    let rows: Vec<Vec<Html>> = data.checkpoints.iter().map(row).collect();
    (!rows.is_empty()).then(|| table_within(BUDGET, "checkpoints", &["step", "folder", "size", ""], rows))
}

/// How much text and how many tokens each split has, above the files they are from.
pub(super) fn data_of(data: &ReportData, sources: Option<Html>) -> Option<Html> {
    let count = |n: Option<u64>| el("span", "number", text(&n.map_or_else(|| "-".to_owned(), wording::count)));
    let rows: Vec<Vec<Html>> = data
        .splits
        .iter()
        .map(|split| {
            let size = split.text_bytes.map_or_else(|| "-".to_owned(), |bytes| wording::bytes(bytes as f64));
            vec![text(&split.name), count(split.documents), count(split.tokens), el("span", "number", text(&size))]
        })
        .collect();
    let splits = (!rows.is_empty()).then(|| table_within(BUDGET, "numbers", &["split", "documents", "tokens", "text"], rows));
    if splits.is_none() && sources.is_none() {
        return None;
    }
    Some(all(splits.into_iter().chain(sources)))
}

/// What kept the measurements, and what did not.
pub(super) fn telemetry(data: &ReportData) -> Option<Html> {
    let size = |name: &str| data.files.iter().find(|(file, _)| file == name).map(|file| file.1);
    let kept =
        [("metrics", "metrics.ndjson"), ("metrics as a table", "metrics.csv"), ("events", "events.ndjson"), ("machine", "system.ndjson")];
    let state = |class: &'static str, name: &str| el("span", class, text(name));
    let mut rows: Vec<Vec<Html>> = kept
        .iter()
        .filter_map(|(what, file)| {
            let bytes = size(file)?;
            let told =
                if *file == "metrics.ndjson" { format!("{} values, ", wording::count(data.metrics.n_values)) } else { String::new() };
            Some(vec![
                text(what),
                state("level-good", "kept"),
                all([el("code", "", text(file)), text(&format!(", {told}{}", wording::bytes(bytes as f64)))]),
            ])
        })
        .collect();
    rows.extend(data.happened.degraded.iter().map(|(component, reason)| vec![text(component), state("level-warn", "off"), text(reason)]));
    if rows.is_empty() {
        return None;
    }
    let lede = if data.happened.degraded.is_empty() {
        "Nothing that was asked for was left out."
    } else {
        "What is off was asked for, and the run went on without it."
    };
    Some(all([el("p", "lede", text(lede)), table_within(BUDGET, "telemetry", &["what", "state", "where, or why not"], rows)]))
}

/// The one word of the verification, for the top of the page.
pub(super) fn verified(data: &ReportData) -> Html {
    let (class, word) = match &data.verdict {
        None => ("status unverified", "not verified"),
        Some(verdict) if !verdict.is_valid => ("status failed", "differs"),
        Some(verdict) if verdict.at < data.record.updated => ("status unverified", "verified before it went on"),
        Some(_) => ("status finished", "verified"),
    };
    el("span", class, text(word))
}

/// Whether the files of the run are what they were when it ended.
pub(super) fn verification(data: &ReportData) -> Html {
    let command = el("code", "", text(&format!("codex-cli runs verify PATH/{}", wording::clipped(&data.folder, 120))));
    let Some(verdict) = &data.verdict else {
        return el(
            "p",
            "",
            all([text("Not verified when this page was drawn; run "), command, text(" to compare every file with its digest.")]),
        );
    };
    let files = format!("{} files were compared with their digests on {} UTC", wording::count(verdict.files), wording::moment(&verdict.at));
    if verdict.is_valid {
        let stale = if verdict.at < data.record.updated { " The run went on after that; " } else { " To look again, run " };
        return el("p", "", all([text(&format!("{files}: everything is what it was when the run ended.{stale}")), command, text(".")]));
    }
    let lede = format!(
        "{files}: {} {} not what they were.",
        wording::count(verdict.n_findings),
        if verdict.n_findings == 1 { "thing is" } else { "things are" }
    );
    let rows = verdict.findings.iter().map(|finding| vec![text(&wording::clipped(finding, 300))]).collect();
    all([el("p", "level-error", text(&lede)), table_within(BUDGET, "", &["what differs"], rows)])
}
