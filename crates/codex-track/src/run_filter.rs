//! Which of many runs are shown, and in which order. Runs that cannot be read are always among them, at the end: a filter knows nothing of them.

use std::cmp::Ordering;
use std::str::FromStr;

use crate::error::TrackError;
use crate::run_list::RunEntry;
use crate::run_record::{RunRecord, RunStatus};

/// What runs are wanted. The default is all of them, by folder name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunFilter {
    /// One of these; any where there is none.
    pub statuses: Vec<RunStatus>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// A pattern of the run's name or its folder's, in which `*` stands for any characters and `?` for one; a word without either is looked for anywhere
    /// in them, whatever its case.
    pub name: Option<String>,
    /// All of these bounds; a run without the metric keeps none.
    pub metrics: Vec<MetricBound>,
    /// The order; runs that lack the value come last either way, and equal ones are in order of their folders.
    pub sort: Option<RunOrder>,
    /// The greatest first.
    pub is_descending: bool,
    /// The most runs that are kept; those that cannot be read are not counted.
    pub limit: Option<usize>,
}

/// What runs are sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOrder {
    /// When they began.
    Started,
    /// When their record was last written.
    Updated,
    /// How long they took, from the beginning to the end or the last record.
    Duration,
    /// Steps taken.
    Step,
    /// Their names.
    Name,
    /// A value of their summary, such as `validation/loss`.
    Metric(String),
}

impl FromStr for RunOrder {
    type Err = TrackError;

    /// `started`, `updated`, `duration`, `step`, `name`, or the name of a metric, which has a `/` or is `tokens_per_second` or `peak_memory_bytes`.
    fn from_str(text: &str) -> Result<Self, TrackError> {
        match text {
            "started" => Ok(Self::Started),
            "updated" => Ok(Self::Updated),
            "duration" => Ok(Self::Duration),
            "step" => Ok(Self::Step),
            "name" => Ok(Self::Name),
            metric if metric.contains('/') || ["tokens_per_second", "peak_memory_bytes"].contains(&metric) => {
                Ok(Self::Metric(metric.to_owned()))
            }
            other => Err(TrackError::Filter {
                text: other.to_owned(),
                expected: "`started`, `updated`, `duration`, `step`, `name`, or a metric such as `validation/loss`",
            }),
        }
    }
}

/// A bound on a value of the summary.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricBound {
    /// Such as `validation/loss`.
    pub metric: String,
    /// How it is compared.
    pub comparison: BoundKind,
    /// With what.
    pub value: f64,
}

/// How a value is compared with a bound. A NaN keeps none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundKind {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl FromStr for MetricBound {
    type Err = TrackError;

    /// `validation/loss<2.5`, with `<`, `<=`, `>` or `>=`.
    fn from_str(text: &str) -> Result<Self, TrackError> {
        let kinds = [("<=", BoundKind::AtMost), (">=", BoundKind::AtLeast), ("<", BoundKind::Below), (">", BoundKind::Above)];
        let found = kinds.into_iter().find_map(|(sign, comparison)| {
            let (metric, value) = text.split_once(sign)?;
            let (metric, value) = (metric.trim(), value.trim().parse::<f64>().ok()?);
            (!metric.is_empty() && !value.is_nan()).then(|| Self { metric: metric.to_owned(), comparison, value })
        });
        found.ok_or_else(|| TrackError::Filter { text: text.to_owned(), expected: "a metric, one of `<` `<=` `>` `>=`, and a number" })
    }
}

impl MetricBound {
    fn keeps(&self, record: &RunRecord) -> bool {
        record.summary.get(&self.metric).is_some_and(|value| match self.comparison {
            BoundKind::Below => *value < self.value,
            BoundKind::AtMost => *value <= self.value,
            BoundKind::Above => *value > self.value,
            BoundKind::AtLeast => *value >= self.value,
        })
    }
}

impl RunFilter {
    /// The runs that are wanted, in order, and behind them those that cannot be read.
    pub fn apply(&self, entries: Vec<RunEntry>) -> Vec<RunEntry> {
        let mut wanted: Vec<(Key, RunEntry)> = Vec::new();
        let mut unreadable = Vec::new();
        for entry in entries {
            match &entry.record {
                Err(_) => unreadable.push(entry),
                Ok(record) if self.keeps(&entry, record) => wanted.push((self.key(record), entry)),
                Ok(_) => {}
            }
        }
        // The order is stable: where the keys are equal it is that of the folders.
        wanted.sort_by(|a, b| self.order(&a.0, &b.0));
        wanted.truncate(self.limit.unwrap_or(usize::MAX));
        wanted.into_iter().map(|(_, entry)| entry).chain(unreadable).collect()
    }

    fn keeps(&self, entry: &RunEntry, record: &RunRecord) -> bool {
        let has_name = |pattern: &String| matches(pattern, &record.name) || matches(pattern, &entry.folder_name());
        (self.statuses.is_empty() || self.statuses.contains(&record.status))
            && self.tags.iter().all(|tag| record.tags.contains(tag))
            && self.name.as_ref().is_none_or(has_name)
            && self.metrics.iter().all(|bound| bound.keeps(record))
    }

    fn key(&self, record: &RunRecord) -> Key {
        let number = |value: Option<f64>| value.filter(|value| !value.is_nan()).map_or(Key::Absent, Key::Number);
        match &self.sort {
            None => Key::Absent,
            Some(RunOrder::Started) => number(seconds(&record.started)),
            Some(RunOrder::Updated) => number(seconds(&record.updated)),
            Some(RunOrder::Duration) => {
                let end = seconds(record.finished.as_ref().unwrap_or(&record.updated));
                number(end.zip(seconds(&record.started)).map(|(end, start)| end - start))
            }
            Some(RunOrder::Step) => Key::Number(record.step as f64),
            Some(RunOrder::Name) => Key::Text(record.name.clone()),
            Some(RunOrder::Metric(metric)) => number(record.summary.get(metric).copied()),
        }
    }

    fn order(&self, a: &Key, b: &Key) -> Ordering {
        let found = match (a, b) {
            (Key::Number(a), Key::Number(b)) => a.total_cmp(b),
            (Key::Text(a), Key::Text(b)) => a.cmp(b),
            (Key::Absent, Key::Absent) => return Ordering::Equal,
            (Key::Absent, _) => return Ordering::Greater,
            (_, Key::Absent) => return Ordering::Less,
            _ => Ordering::Equal,
        };
        if self.is_descending { found.reverse() } else { found }
    }
}

enum Key {
    Number(f64),
    Text(String),
    Absent,
}

fn seconds(rfc3339: &str) -> Option<f64> {
    rfc3339.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond() as f64 / 1000.0)
}

/// Whether a pattern is that of a text; it takes steps in proportion to the product of their lengths at most.
fn matches(pattern: &str, text: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return text.to_lowercase().contains(&pattern.to_lowercase());
    }
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` is, and how much of the text it takes.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                t = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::RunDir;
    use codex_core::{Digest, Timestamp};

    fn entry(name: &str, tags: &[&str], loss: Option<f64>, status: RunStatus) -> RunEntry {
        let path = std::path::PathBuf::from(format!("runs/20260101-000000-{name}"));
        let run = RunDir::open(std::path::Path::new(".")).unwrap();
        let mut record = RunRecord::new(&run, name, &[], 1, Digest::of_bytes(b""), Digest::of_bytes(b""), Timestamp(0));
        record.tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        record.status = status;
        record.started = Timestamp(i64::from(name.as_bytes()[0]) * -1000).to_rfc3339();
        record.summary.extend(loss.map(|loss| ("validation/loss".to_owned(), loss)));
        RunEntry { path, record: Ok(record), warning: None }
    }

    fn entries() -> Vec<RunEntry> {
        let mut all = vec![
            entry("alpha", &["x"], Some(3.0), RunStatus::Finished),
            entry("beta", &["x", "y"], Some(2.0), RunStatus::Failed),
            entry("gamma", &[], None, RunStatus::Finished),
            entry("delta", &["y"], Some(2.0), RunStatus::Running),
            entry("epsilon", &["x"], Some(f64::NAN), RunStatus::Finished),
        ];
        let bad = TrackError::NotARun { path: "runs/bad".into(), found: "x" };
        all.insert(1, RunEntry { path: "runs/bad".into(), record: Err(bad), warning: None });
        all
    }

    fn kept(filter: &RunFilter) -> String {
        let name = |entry: &RunEntry| entry.record.as_ref().map_or("!".to_owned(), |record| record.name[..1].to_owned());
        filter.apply(entries()).iter().map(name).collect()
    }

    #[test]
    fn each_condition_keeps_its_runs_and_damaged_ones_stay() {
        let all = RunFilter::default();
        let bound = |text: &str| vec![text.parse::<MetricBound>().unwrap()];
        let tags = |tags: &[&str]| tags.iter().map(|&tag| tag.to_owned()).collect();
        let order = |text: &str| Some(text.parse::<RunOrder>().unwrap());
        let cases = [
            (all.clone(), "abgde!"),
            (RunFilter { statuses: vec![RunStatus::Failed, RunStatus::Running], ..all.clone() }, "bd!"),
            (RunFilter { tags: tags(&["x"]), ..all.clone() }, "abe!"),
            (RunFilter { tags: tags(&["x", "y"]), ..all.clone() }, "b!"),
            (RunFilter { name: Some("*eta".to_owned()), ..all.clone() }, "b!"),
            (RunFilter { name: Some("2026*-?elta".to_owned()), ..all.clone() }, "d!"),
            (RunFilter { name: Some("TA".to_owned()), ..all.clone() }, "bd!"),
            (RunFilter { metrics: bound("validation/loss<3"), ..all.clone() }, "bd!"),
            (RunFilter { metrics: bound("validation/loss <= 3"), ..all.clone() }, "abd!"),
            (RunFilter { metrics: bound("validation/loss>2"), ..all.clone() }, "a!"),
            (RunFilter { metrics: bound("validation/loss>=2"), ..all.clone() }, "abd!"),
            (RunFilter { sort: order("validation/loss"), ..all.clone() }, "bdage!"),
            (RunFilter { sort: order("validation/loss"), is_descending: true, ..all.clone() }, "abdge!"),
            (RunFilter { sort: order("started"), limit: Some(2), ..all.clone() }, "ge!"),
            (RunFilter { sort: order("name"), is_descending: true, ..all }, "gedba!"),
        ];
        for (filter, expected) in cases {
            assert_eq!(kept(&filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_is_expected() {
        for text in ["validation/loss", "<3", "a<b", "a<NaN", ""] {
            assert!(text.parse::<MetricBound>().unwrap_err().to_string().starts_with("cannot read `"), "{text}");
        }
        assert_eq!(
            "loss".parse::<RunOrder>().unwrap_err().to_string(),
            "cannot read `loss`: expected `started`, `updated`, `duration`, `step`, `name`, or a metric such as `validation/loss`"
        );
    }

    #[test]
    fn a_pattern_of_many_stars_ends() {
        assert!(!matches(&"*a".repeat(300), &"b".repeat(20_000)));
        assert!(matches("a*b*c", "aXXbYYc") && !matches("a*b", "aXXc") && matches("?", "ä") && matches("**", ""));
    }
}
