//! The top of a report: what the run is, how it ended, and what came of it beside where it began and what a unigram model reaches.

use super::data::ReportData;
use super::html::{Html, all, el, text};
use super::{state, wording};
use crate::annotation;
use crate::run_record::RunStatus;

/// Name, status, the result as a sentence, and the size of the run.
pub(super) fn masthead(data: &ReportData) -> Html {
    let record = &data.record;
    let end = record.finished.as_ref().unwrap_or(&record.updated);
    let class = match record.status {
        RunStatus::Running => "status running",
        RunStatus::Finished => "status finished",
        RunStatus::Interrupted | RunStatus::Killed => "status interrupted",
        RunStatus::Failed => "status failed",
    };
    let exit = record.exit_code.filter(|&code| code != 0).map(|code| format!(", exit code {code}")).unwrap_or_default();
    let status = el("span", class, text(&format!("{}{exit}", record.status.as_str())));
    let when = el("span", "", text(&wording::clipped(&wording::period(&record.started, end), 200)));
    let line = el("p", "byline", all([status, state::verified(data), when, el("code", "", text(&wording::clipped(&record.id, 200)))]));
    let head = all([el("p", "kicker", text("codex training run")), el("h1", "", text(&wording::clipped(&record.name, 200))), line]);
    el("header", "", all([head, said(data), el("p", "verdict", text(&verdict(data))), facts(data), degraded(data)]))
}

/// The tags and the note.
fn said(data: &ReportData) -> Html {
    let record = &data.record;
    let tags = all(record
        .tags
        .iter()
        .take(annotation::MAX_TAGS)
        .map(|tag| el("span", "chip", text(&wording::clipped(tag, annotation::MAX_TAG_CHARS)))));
    let tags = if record.tags.is_empty() { tags } else { el("p", "tags", tags).with("aria-label", "Tags") };
    let note = record.note.as_ref().map(|note| el("p", "said", text(&wording::clipped(note, annotation::MAX_NOTE_CHARS))));
    all([tags, note.unwrap_or_default()])
}

/// What came of the run, in a sentence.
fn verdict(data: &ReportData) -> String {
    let steps = format!("{} {}", wording::count(data.record.step), if data.record.step == 1 { "step" } else { "steps" });
    let extent =
        data.metrics.tokens.map_or_else(|| steps.clone(), |tokens| format!("{steps} and {} training tokens", wording::count(tokens)));
    let Some(loss) = data.newest("validation", "loss") else {
        return format!("After {extent}, no evaluation has been recorded.");
    };
    let against = |name: &str, other: Option<&f64>| {
        let other = *other?;
        let percent = (other - loss) / other * 100.0;
        let side = if percent >= 0.0 { "below" } else { "above" };
        percent.is_finite().then(|| format!("{:.0} % {side} {name} ({})", percent.abs(), wording::value(other)))
    };
    let comparisons: Vec<String> = [
        against("a unigram model on the same tokens", data.record.summary.get("baseline/unigram/loss")),
        against("the first evaluation", data.record.summary.get("first/validation/loss")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let compared = if comparisons.is_empty() { String::new() } else { format!(", {}", comparisons.join(" and ")) };
    format!("After {extent}, the validation loss is {} nats per token{compared}.", wording::value(loss))
}

/// The size of the run in numbers.
fn facts(data: &ReportData) -> Html {
    let record = &data.record;
    let speeds = data.series("train", "tokens_per_second");
    let speed = record.summary.get("tokens_per_second").copied().or_else(|| median(speeds));
    let peak = data
        .machine("process_peak_rss_bytes")
        .iter()
        .map(|point| point.1)
        .fold(None, |most: Option<f64>, value| Some(most.unwrap_or(0.0).max(value)));
    let end = record.finished.as_ref().unwrap_or(&record.updated);
    let all_facts = [
        ("steps", Some(wording::count(record.step))),
        ("tokens seen", data.metrics.tokens.map(wording::count)),
        ("epochs", data.metrics.epoch.map(|epoch| format!("{epoch:.2}"))),
        ("tokens per second", speed.map(|speed| wording::count(speed.max(0.0).round() as u64))),
        ("peak memory", peak.map(wording::bytes)),
        ("from start to end", wording::seconds_between(&record.started, end).map(wording::duration)),
        ("resumed", (!record.resumed_from.is_empty()).then(|| format!("{} ×", record.resumed_from.len()))),
        ("seed", Some(record.seed.to_string())),
        ("promised", Some(wording::clipped(&record.promise, 400)).filter(|promise| !promise.is_empty())),
    ];
    let shown = all_facts.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let fact = |(name, value): (&str, String)| {
        el("div", if name == "promised" { "long" } else { "" }, all([el("dt", "", text(name)), el("dd", "", text(&value))]))
    };
    el("dl", "facts", all(shown.map(fact)))
}

/// The middle value of a series.
pub(super) fn median(series: &[(f64, f64)]) -> Option<f64> {
    let mut values: Vec<f64> = series.iter().map(|point| point.1).filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// What was asked for and not done.
fn degraded(data: &ReportData) -> Html {
    let off = data.happened.degraded.iter().map(|(component, reason)| format!("`{component}` is off: {reason}"));
    let error = data.record.error.iter().map(|error| wording::clipped(error, 1000));
    let items: Vec<Html> =
        error.chain(off).chain(data.happened.errors.iter().cloned()).map(|message| el("li", "", text(&message))).collect();
    if items.is_empty() {
        return Html::default();
    }
    el(
        "aside",
        "warning",
        all([
            el(
                "strong",
                "",
                text(if data.record.error.is_some() { "What went wrong" } else { "This run went on with less than was asked for" }),
            ),
            el("ul", "", all(items)),
        ]),
    )
}

/// The metrics of the last evaluation beside the first and the baseline.
pub(super) fn cards(data: &ReportData) -> Option<Html> {
    let card = |title: &str, unit: &str, split: &str, metric: &str| {
        let now = data.newest(split, metric)?;
        let is_validation = split == "validation";
        let at = |prefix: &str| data.record.summary.get(&format!("{prefix}/{metric}")).copied();
        let (first, baseline) = if is_validation {
            (at("first/validation"), at("baseline/unigram"))
        } else {
            (data.series(split, metric).first().map(|point| point.1), None)
        };
        let names = if is_validation { ["last evaluation", "first evaluation"] } else { ["last step", "first step"] };
        let rows = [(names[0], Some(now)), (names[1], first), ("unigram model", baseline)];
        let said = |value: f64| if metric == "token_accuracy" { format!("{:.1} %", value * 100.0) } else { wording::value(value) };
        let most = rows.iter().filter_map(|row| row.1).filter(|value| value.is_finite()).fold(0.0_f64, f64::max);
        let row = |(name, value): (&str, Option<f64>)| {
            let value = value?;
            let share = if most > 0.0 && value.is_finite() { (value / most * 100.0).clamp(0.0, 100.0) } else { 0.0 };
            let bar =
                el("i", if name == names[0] { "bar now" } else { "bar" }, Html::default()).with("style", &format!("width:{share:.1}%"));
            Some(el(
                "tr",
                "",
                all([el("th", "", text(name)).with("scope", "row"), el("td", "", bar), el("td", "number", text(&said(value)))]),
            ))
        };
        let big = el("p", "big", all([text(&said(now)), el("small", "", text(unit))]));
        let bars = el("table", "bars", all(rows.into_iter().filter_map(row)));
        Some(el("article", if is_validation { "card" } else { "card of-training" }, all([el("h3", "", text(title)), big, bars])))
    };
    let cards: Vec<Html> = [
        card("Validation loss", "nats per token", "validation", "loss"),
        card("Perplexity", "", "validation", "perplexity"),
        card("Bits per byte", "of held-out text", "validation", "bits_per_byte"),
        card("Token accuracy", "of next tokens", "validation", "token_accuracy"),
        card("Training loss", "nats per token", "train", "loss"),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!cards.is_empty()).then(|| el("div", "cards", all(cards)))
}
