//! `events.ndjson`: what happened, one JSON object per event. Numbers that make a curve are metrics, not events.

use codex_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::TrackError;
use crate::line_log::{Line, LineLog, for_each_line_if_any};
use crate::run_dir::RunDir;

/// The file's name.
pub const FILE: &str = "events.ndjson";

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As expected.
    Info,
    /// The run goes on, with less than was asked for.
    Warn,
    /// Something was lost.
    Error,
}

impl Level {
    /// The level as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// One line of `events.ndjson`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, RFC 3339 in UTC.
    pub ts: String,
    /// How much it matters.
    pub level: Level,
    /// What kind of event, as one word, such as `checkpoint`.
    pub kind: String,
    /// What happened, for a person.
    pub message: String,
    /// What else belongs to it.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Event {
    /// An event. A field with a name of the event's own, and `fields` that are no object, are put under `fields`.
    pub fn new(at: Timestamp, level: Level, kind: &str, message: &str, fields: Value) -> Self {
        let mut own = Map::new();
        let mut below = Map::new();
        match fields {
            Value::Object(map) => {
                for (key, value) in map {
                    let is_taken = ["ts", "level", "kind", "message", "fields"].contains(&key.as_str());
                    if is_taken {
                        below.insert(key, value)
                    } else {
                        own.insert(key, value)
                    };
                }
                if !below.is_empty() {
                    own.insert("fields".to_owned(), below.into());
                }
            }
            Value::Null => {}
            other => drop(own.insert("fields".to_owned(), other)),
        }
        Self { ts: at.to_rfc3339(), level, kind: kind.to_owned(), message: message.to_owned(), fields: own }
    }

    /// Appends the event as one line.
    pub(crate) fn append_to(&self, log: &mut LineLog) -> Result<(), TrackError> {
        let mut line = serde_json::to_vec(self).map_err(|source| TrackError::Encode { path: FILE.into(), source })?;
        line.push(b'\n');
        Ok(log.append(&line)?)
    }
}

/// Adds one event to a run that no tracker has open.
pub fn append(run: &RunDir, at: Timestamp, level: Level, kind: &str, message: &str, fields: Value) -> Result<(), TrackError> {
    let mut log = LineLog::open(&run.path().join(FILE))?;
    Event::new(at, level, kind, message, fields).append_to(&mut log)?;
    Ok(log.sync()?)
}

/// The events of a run in the order in which they happened, and how many lines are none. An unfinished last line is not counted.
pub fn read_events(run: &RunDir) -> Result<(Vec<Event>, u64), TrackError> {
    let mut events = Vec::new();
    let mut bad_lines = 0;
    for_each_line_if_any(&run.path().join(FILE), |line| match line {
        Line::Torn => {}
        Line::TooLong => bad_lines += 1,
        Line::Whole(whole) => match serde_json::from_slice(whole) {
            Ok(event) => events.push(event),
            Err(_) => bad_lines += 1,
        },
    })?;
    Ok((events, bad_lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_lie_beside_the_events_own_and_never_replace_them() {
        let line = |fields| serde_json::to_string(&Event::new(Timestamp(0), Level::Warn, "k", "m", fields)).unwrap();
        let start = r#"{"ts":"1970-01-01T00:00:00.000Z","level":"warn","kind":"k","message":"m""#;
        assert_eq!(line(json!(null)), format!("{start}}}"));
        assert_eq!(line(json!([1])), format!("{start},\"fields\":[1]}}"));
        let text = line(json!({ "step": 3, "level": "x" }));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["level"], "warn");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["fields"]["level"], "x");
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap().fields["step"], 3);
    }

    #[test]
    fn bad_lines_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        assert_eq!(read_events(&run).unwrap(), (Vec::new(), 0));
        run.write_text(FILE, "{}\nx\n{\"ts\":\"\",\"level\":\"error\",\"kind\":\"k\",\"message\":\"m\"}\n{\"ts\"").unwrap();
        let (events, bad_lines) = read_events(&run).unwrap();
        assert_eq!((events.len(), bad_lines), (1, 2));
        assert_eq!(events[0].level.as_str(), "error");
        assert!(Level::Info < Level::Warn);
    }
}
