//! What makes every other form of the metrics a true view of `metrics.ndjson`: it is compared with what is there, and gets what it lacks.

use std::collections::BTreeMap;

use codex_core::Timestamp;

use crate::error::TrackError;
use crate::event::read_events;
use crate::line_log::Line;
use crate::metric::{MetricPoint, MetricWriter, ReadLine, WriterContext};
use crate::metric_files::for_each_metric_line;
use crate::run_dir::RunDir;

/// A text that the model wrote, or that the run noted, at a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptText {
    pub(crate) step: u64,
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) at: Timestamp,
}

/// Brings a writer to what `metrics.ndjson` holds of this run, which has been shortened to the resumed step before: the writer is asked in order
/// for each value, is given the ones it lacks, and then drops what is left of it.
///
/// # Errors
/// Of the writer, or of reading the truth. The writer is not to be used after one.
pub(crate) fn catch_up(writer: &mut dyn MetricWriter, context: &WriterContext<'_>, texts: &[KeptText]) -> Result<(), TrackError> {
    let mut failed = None;
    // Texts go where they belong among the values: a reader may take a step that goes back for a mistake.
    let mut texts = texts.iter().peekable();
    for_each_metric_line(context.dir, |line| {
        if let Line::Whole(line) = line
            && failed.is_none()
            && let Some(line) = ReadLine::of(line)
            && (!context.shared || line.run_id == context.run_id)
        {
            failed = give(writer, &line, &mut texts).err();
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    writer.settle(None)?;
    give_texts(writer, None, &mut texts)
}

/// Gives the texts of steps before this one; all where there is none.
fn give_texts(writer: &mut dyn MetricWriter, before: Option<u64>, texts: &mut Texts<'_>) -> Result<(), TrackError> {
    while let Some(text) = texts.next_if(|text| before.is_none_or(|step| text.step < step)) {
        if !writer.has_text(text.step, &text.name) {
            writer.text(text.step, &text.name, &text.text, text.at)?;
        }
    }
    Ok(())
}

type Texts<'a> = std::iter::Peekable<std::slice::Iter<'a, KeptText>>;

fn give(writer: &mut dyn MetricWriter, line: &ReadLine, texts: &mut Texts<'_>) -> Result<(), TrackError> {
    let value = line.value.0;
    if writer.has(line.step, &line.split, &line.metric, value)? {
        return Ok(());
    }
    give_texts(writer, Some(line.step), texts)?;
    let point = MetricPoint {
        step: line.step,
        split: &line.split,
        values: &[(&line.metric, value)],
        tokens: line.tags.tokens.unwrap_or_default(),
        epoch: line.tags.epoch.map_or(0.0, |epoch| epoch.0),
    };
    writer.write(&point, moment(line.timestamp.as_deref().unwrap_or_default()))
}

/// A moment as it is written in a line; 1970 where it is none.
pub(crate) fn moment(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_millisecond))
}

/// The texts of a run up to the step that it goes on from, by step; of a step that was taken again, the last. A run from the start has none.
pub(crate) fn kept_texts(run: &RunDir, resume_step: Option<u64>) -> Vec<KeptText> {
    let Some(resume_step) = resume_step else { return Vec::new() };
    // Without its events a run has no texts; that they cannot be read is told where they are opened.
    let (events, _) = read_events(run).unwrap_or_default();
    let mut texts: BTreeMap<(u64, String), KeptText> = BTreeMap::new();
    for event in events {
        match event.kind.as_str() {
            "started" => texts.clear(),
            "resumed" => {
                let from = event.fields.get("step").and_then(serde_json::Value::as_u64);
                texts.retain(|(step, _), _| from.is_none_or(|from| *step <= from));
            }
            _ => {
                if let Some((step, name, text)) = text_of(&event.kind, &event.fields)
                    && step <= resume_step
                {
                    let at = moment(&event.ts);
                    texts.insert((step, name.clone()), KeptText { step, name, text, at });
                }
            }
        }
    }
    texts.into_values().collect()
}

/// The step, name and text of an event that holds one: a `sample` with its prompt, or a `text`.
pub(crate) fn text_of(kind: &str, fields: &serde_json::Map<String, serde_json::Value>) -> Option<(u64, String, String)> {
    let field = |name: &str| fields.get(name).and_then(serde_json::Value::as_str);
    let step = fields.get("step").and_then(serde_json::Value::as_u64)?;
    match kind {
        "sample" => Some((step, "sample".to_owned(), format!("{}{}", field("prompt").unwrap_or_default(), field("text")?))),
        "text" => Some((step, field("name")?.to_owned(), field("text")?.to_owned())),
        _ => None,
    }
}

/// Whether two values are the same as they are written: the same number, or both none.
pub(crate) fn is_same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{self, Level};
    use serde_json::json;

    #[test]
    fn texts_of_steps_that_were_taken_again_count_as_the_last_time() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        let event = |kind: &str, fields| event::append(&run, Timestamp(5), Level::Info, kind, "", fields).unwrap();
        event("sample", json!({ "step": 1, "prompt": "p", "text": "of an attempt before" }));
        event("started", json!(null));
        event("sample", json!({ "step": 2, "prompt": "p ", "text": "a" }));
        event("text", json!({ "step": 2, "name": "note", "text": "n" }));
        event("sample", json!({ "step": 4, "prompt": "", "text": "lost" }));
        event("resumed", json!({ "step": 3 }));
        event("sample", json!({ "step": 2, "prompt": "p ", "text": "b" }));
        event("sample", json!({ "step": 9, "prompt": "", "text": "later" }));
        let text = |name: &str, text: &str| KeptText { step: 2, name: name.into(), text: text.into(), at: Timestamp(5) };
        assert_eq!(kept_texts(&run, Some(8)), [text("note", "n"), text("sample", "p b")]);
        assert!(kept_texts(&run, None).is_empty());
        assert_eq!((moment("1970-01-01T00:00:01.500Z"), moment("now")), (Timestamp(1500), Timestamp(0)));
    }
}
