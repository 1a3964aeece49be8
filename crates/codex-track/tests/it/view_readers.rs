//! Small readers of what the writers write, made from the formats' descriptions and not from the writers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codex_core::files;
use serde_json::Value;

/// (step, value bits) by `split/metric`, in the order in which they are found; a value that is none has the bits of one NaN.
pub(crate) type Points = BTreeMap<String, Vec<(u64, u64)>>;

pub(crate) fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn add(points: &mut Points, key: &str, step: u64, value: f64) {
    points.entry(key.to_owned()).or_default().push((step, bits(value)));
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

pub(crate) fn ndjson(run: &Path) -> Points {
    let mut points = Points::new();
    for path in codex_track::metric_files(run).unwrap() {
        let text = files::read_to_string(&path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        for line in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            let key = format!("{}/{}", line["split"].as_str().unwrap(), line["metric"].as_str().unwrap());
            add(&mut points, &key, line["step"].as_u64().unwrap(), number(&line["value"]));
        }
    }
    points
}

pub(crate) fn table(run: &Path) -> Points {
    let mut points = Points::new();
    let mut reader = csv::Reader::from_path(run.join("metrics.csv")).unwrap();
    for row in reader.records().map(Result::unwrap) {
        add(&mut points, &format!("{}/{}", &row[1], &row[2]), row[0].parse().unwrap(), row[3].parse().unwrap());
    }
    points
}

/// The fields of a protocol buffer.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in 0.. {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 127) << (7 * shift);
            if byte < 128 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let n = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            5 => 4,
            2 => varint(&mut bytes) as usize,
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, bytes[..n].to_vec()));
        bytes = &bytes[n..];
    }
    found
}

fn field(message: &[u8], number: u64) -> Option<Vec<u8>> {
    fields(message).into_iter().find(|(found, _)| *found == number).map(|(_, value)| value)
}

fn int(message: &[u8], number: u64) -> u64 {
    field(message, number).map_or(0, |value| u64::from_le_bytes(value.try_into().unwrap()))
}

fn text(message: &[u8], number: u64) -> String {
    String::from_utf8(field(message, number).unwrap_or_default()).unwrap()
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// What TensorBoard shows: the scalars, and the steps of texts. A session start takes out what is there of later steps.
pub(crate) fn tensorboard(run: &Path) -> (Points, Vec<(String, u64)>) {
    let (mut points, mut texts) = (Points::new(), Vec::new());
    for path in files::list_dir(&run.join("tensorboard")).unwrap() {
        let bytes = files::read(&path).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            let length = u32_at(&bytes, at);
            let event = &bytes[at + 12..at + 12 + length];
            at += length + 16;
            let step = int(event, 2);
            if field(event, 7).is_some() {
                for values in points.values_mut() {
                    values.retain(|(held, _)| *held < step);
                }
                texts.retain(|(_, held)| *held < step);
            }
            let Some(value) = field(event, 5).and_then(|summary| field(&summary, 1)) else { continue };
            let tag = text(&value, 1);
            if let Some(simple) = field(&value, 2) {
                add(&mut points, &tag, step, f64::from(f32::from_le_bytes(simple.try_into().unwrap())));
            } else if field(&value, 8).is_some() {
                texts.push((tag, step));
            }
        }
        assert_eq!(at, bytes.len());
    }
    points.retain(|_, values| !values.is_empty());
    (points, texts)
}

/// What Weights & Biases shows.
#[derive(Default)]
pub(crate) struct Wandb {
    pub(crate) points: Points,
    pub(crate) texts: Vec<(String, u64)>,
    /// Of each log, whether it has an end.
    pub(crate) ends: Vec<bool>,
    /// The steps of all rows, in the order in which they are sent.
    pub(crate) steps: Vec<u64>,
}

pub(crate) fn wandb(run: &Path) -> Wandb {
    let Wandb { mut points, mut texts, mut ends, mut steps } = Wandb::default();
    for folder in files::list_dir(&run.join("wandb")).unwrap() {
        let logs: Vec<PathBuf> = files::list_dir(&folder).unwrap().into_iter().filter(|path| path.is_file()).collect();
        let bytes = files::read(&logs[0]).unwrap();
        assert_eq!(&bytes[..7], b":W&B\xe1\xbe\0");
        let (mut at, mut record, mut has_end) = (7, Vec::new(), false);
        while at < bytes.len() {
            let left = 32_768 - at % 32_768;
            if left < 7 {
                at += left;
                continue;
            }
            let length = u32_at(&bytes, at + 2) >> 16;
            record.extend_from_slice(&bytes[at + 7..at + 7 + length]);
            let is_last = [1, 4].contains(&bytes[at + 6]);
            at += 7 + length;
            if !is_last {
                continue;
            }
            has_end |= field(&record, 18).is_some();
            let history = field(&record, 2).unwrap_or_default();
            record.clear();
            let step = field(&history, 2).map_or(0, |step| int(&step, 1));
            steps.extend((!history.is_empty()).then_some(step));
            for (_, item) in fields(&history).into_iter().filter(|(number, _)| *number == 1) {
                let (key, json) = (text(&item, 1), text(&item, 16));
                match key.strip_prefix("text/") {
                    Some(name) => texts.push((name.to_owned(), step)),
                    None if key.starts_with('_') => {}
                    None => add(&mut points, &key, step, json.parse().unwrap()),
                }
            }
        }
        ends.push(has_end);
    }
    Wandb { points, texts, ends, steps }
}

/// What MLflow shows; names that it does not take are spelled otherwise there, so these are compared by their number.
pub(crate) fn mlflow(run: &Path) -> Points {
    fn walk(folder: &Path, prefix: &str, points: &mut Points) {
        for path in files::list_dir(folder).unwrap() {
            let key = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                walk(&path, &format!("{key}/"), points);
                continue;
            }
            let lines = files::read_to_string(&path).unwrap();
            assert!(lines.ends_with('\n'), "an empty or torn file: {}", path.display());
            for line in lines.lines() {
                let words: Vec<&str> = line.split(' ').collect();
                assert_eq!(words.len(), 3);
                add(points, &key, words[2].parse().unwrap(), words[1].parse().unwrap());
            }
        }
    }
    let mut points = Points::new();
    for experiment in files::list_dir(&run.join("mlflow")).unwrap() {
        for folder in files::list_dir(&experiment).unwrap().into_iter().filter(|path| path.is_dir()) {
            walk(&folder.join("metrics"), "", &mut points);
        }
    }
    points
}
