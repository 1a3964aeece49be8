//! Summaries of metrics for people and other programs: as a table, CSV, JSON and, with the feature `parquet`, Parquet.

use crate::error::TrackError;
use crate::number;
use crate::summary::{MetricSummaries, MetricSummary};

/// The columns of all forms, in order. `dataset`, the times, and what needs a finite value may be absent.
pub const COLUMNS: [&str; 17] = [
    "run_id",
    "split",
    "metric",
    "dataset",
    "count",
    "non_finite",
    "first_step",
    "first_at",
    "first",
    "last_step",
    "last_at",
    "last",
    "min_step",
    "min",
    "max_step",
    "max",
    "mean",
];

/// A table for a person; numbers have six digits, and how many lines could not be read stands below.
pub fn to_table(summaries: &MetricSummaries) -> String {
    let runs = summaries.metrics.iter().map(|it| &it.run_id).collect::<std::collections::BTreeSet<_>>().len();
    let has_dataset = summaries.metrics.iter().any(|it| it.dataset.is_some());
    let mut head = vec!["split", "metric", "n", "not finite", "first", "last", "min", "at step", "max", "at step", "mean"];
    if has_dataset {
        head.insert(2, "dataset");
    }
    if runs > 1 {
        head.insert(0, "run");
    }
    let n_words = head.iter().position(|&name| name == "n").unwrap_or(0);
    let rows = summaries.metrics.iter().map(|it| {
        let step = |step: Option<u64>| step.map_or_else(|| "-".to_owned(), |step| step.to_string());
        let mut row = vec![it.split.clone(), it.metric.clone()];
        if has_dataset {
            row.push(it.dataset.clone().unwrap_or_else(|| "-".to_owned()));
        }
        if runs > 1 {
            row.insert(0, it.run_id.clone());
        }
        row.extend([it.count.to_string(), it.non_finite.to_string(), short(it.first), short(it.last)]);
        row.extend([short(it.min), step(it.min_step), short(it.max), step(it.max_step), short(it.mean)]);
        row
    });
    let table = text_table(&head, n_words, rows);
    match summaries.bad_lines {
        0 => table,
        1 => format!("{table}1 line could not be read\n"),
        n => format!("{table}{n} lines could not be read\n"),
    }
}

/// CSV after RFC 4180 with the [`COLUMNS`]; what is absent is empty, and what is not finite is `NaN`, `Infinity` or `-Infinity`.
///
/// # Errors
/// None but those of the writer, which writes to memory.
pub fn to_csv(summaries: &MetricSummaries) -> Result<String, TrackError> {
    let failed = |reason: String| TrackError::Table { path: "metrics_summary.csv".into(), reason };
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).map_err(|error| failed(error.to_string()))?;
    for summary in &summaries.metrics {
        writer.write_record(cells(summary)).map_err(|error| failed(error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}

/// JSON: an object with `metrics`, a list, and `bad_lines`.
///
/// # Errors
/// None: every summary has a JSON form.
pub fn to_json(summaries: &MetricSummaries) -> Result<String, TrackError> {
    let text = serde_json::to_string_pretty(summaries);
    text.map(|text| text + "\n").map_err(|source| TrackError::Encode { path: "metrics_summary.json".into(), source })
}

fn cells(it: &MetricSummary) -> [String; COLUMNS.len()] {
    let step = |step: Option<u64>| step.map(|step| step.to_string()).unwrap_or_default();
    let finite = |value: f64, step: Option<u64>| step.map(|_| number::text(value)).unwrap_or_default();
    [
        it.run_id.clone(),
        it.split.clone(),
        it.metric.clone(),
        it.dataset.clone().unwrap_or_default(),
        it.count.to_string(),
        it.non_finite.to_string(),
        it.first_step.to_string(),
        it.first_at.clone().unwrap_or_default(),
        number::text(it.first),
        it.last_step.to_string(),
        it.last_at.clone().unwrap_or_default(),
        number::text(it.last),
        step(it.min_step),
        finite(it.min, it.min_step),
        step(it.max_step),
        finite(it.max, it.min_step),
        finite(it.mean, it.min_step),
    ]
}

/// Six significant digits.
fn short(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "-".to_owned()
    } else if !value.is_finite() {
        number::text(value)
    } else if size > 0.0 && !(1e-4..1e9).contains(&size) {
        format!("{value:.5e}")
    } else {
        let whole = if size >= 1.0 { size.log10().floor() as usize + 1 } else { 1 };
        let digits = 6_usize.saturating_sub(whole);
        let text = format!("{value:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    }
}

/// Columns of text side by side: the first `n_words` to the left, the others to the right. What cannot be seen is shown as `\u{fffd}`.
pub(crate) fn text_table(head: &[&str], n_words: usize, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let visible = |cell: &str| cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    let mut lines = vec![head.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.into_iter().map(|row| row.iter().map(|cell| visible(cell)).collect()));
    let widths: Vec<usize> = (0..head.len())
        .map(|idx| lines.iter().filter_map(|line| line.get(idx)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(idx, (cell, &width))| if idx < n_words { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(feature = "parquet")]
pub use as_parquet::to_parquet;

#[cfg(feature = "parquet")]
mod as_parquet {
    use std::sync::Arc;

    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::errors::ParquetError;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
    use parquet::schema::parser::parse_message_type;

    use crate::error::TrackError;
    use crate::summary::{MetricSummaries, MetricSummary};

    /// The columns in the order of [`COLUMNS`](super::COLUMNS).
    const SCHEMA: &str = "message metrics_summary {
        REQUIRED BYTE_ARRAY run_id (STRING); REQUIRED BYTE_ARRAY split (STRING); REQUIRED BYTE_ARRAY metric (STRING);
        OPTIONAL BYTE_ARRAY dataset (STRING);
        REQUIRED INT64 count (INTEGER(64,false)); REQUIRED INT64 non_finite (INTEGER(64,false));
        REQUIRED INT64 first_step (INTEGER(64,false)); OPTIONAL BYTE_ARRAY first_at (STRING); REQUIRED DOUBLE first;
        REQUIRED INT64 last_step (INTEGER(64,false)); OPTIONAL BYTE_ARRAY last_at (STRING); REQUIRED DOUBLE last;
        OPTIONAL INT64 min_step (INTEGER(64,false)); OPTIONAL DOUBLE min;
        OPTIONAL INT64 max_step (INTEGER(64,false)); OPTIONAL DOUBLE max; OPTIONAL DOUBLE mean;
    }";

    /// The bytes of a Parquet file with one row for each summary, Snappy compressed; what is absent is null. The same summaries give the same bytes.
    ///
    /// # Errors
    /// What the writer refuses.
    pub fn to_parquet(summaries: &MetricSummaries) -> Result<Vec<u8>, TrackError> {
        write(&summaries.metrics).map_err(|error| TrackError::Table { path: "metrics_summary.parquet".into(), reason: error.to_string() })
    }

    fn write(all: &[MetricSummary]) -> Result<Vec<u8>, ParquetError> {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(parse_message_type(SCHEMA)?), Arc::new(properties))?;
        let mut rows = writer.next_row_group()?;
        let group = &mut rows;
        // A column that all rows have is written like one that they may lack: its levels are not kept.
        texts(group, all, false, |it| Some(&it.run_id))?;
        texts(group, all, false, |it| Some(&it.split))?;
        texts(group, all, false, |it| Some(&it.metric))?;
        texts(group, all, true, |it| it.dataset.as_ref())?;
        counts(group, all, false, |it| Some(it.count))?;
        counts(group, all, false, |it| Some(it.non_finite))?;
        counts(group, all, false, |it| Some(it.first_step))?;
        texts(group, all, true, |it| it.first_at.as_ref())?;
        numbers(group, all, false, |it| Some(it.first))?;
        counts(group, all, false, |it| Some(it.last_step))?;
        texts(group, all, true, |it| it.last_at.as_ref())?;
        numbers(group, all, false, |it| Some(it.last))?;
        counts(group, all, true, |it| it.min_step)?;
        numbers(group, all, true, |it| it.min_step.map(|_| it.min))?;
        counts(group, all, true, |it| it.max_step)?;
        numbers(group, all, true, |it| it.max_step.map(|_| it.max))?;
        numbers(group, all, true, |it| it.min_step.map(|_| it.mean))?;
        rows.close()?;
        writer.into_inner()
    }

    type Group<'a> = SerializedRowGroupWriter<'a, Vec<u8>>;

    fn column<T: parquet::data_type::DataType>(
        group: &mut Group<'_>,
        cells: &[Option<T::T>],
        is_optional: bool,
    ) -> Result<(), ParquetError> {
        let values: Vec<T::T> = cells.iter().flatten().cloned().collect();
        let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
        let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("the schema has fewer columns".to_owned()))?;
        column.typed::<T>().write_batch(&values, is_optional.then_some(levels.as_slice()), None)?;
        column.close()
    }

    fn texts<'a>(
        group: &mut Group<'_>,
        all: &'a [MetricSummary],
        is_optional: bool,
        of: impl Fn(&'a MetricSummary) -> Option<&'a String>,
    ) -> Result<(), ParquetError> {
        let cells: Vec<Option<ByteArray>> = all.iter().map(|it| of(it).map(|text| text.as_str().into())).collect();
        column::<ByteArrayType>(group, &cells, is_optional)
    }

    fn counts(
        group: &mut Group<'_>,
        all: &[MetricSummary],
        is_optional: bool,
        of: impl Fn(&MetricSummary) -> Option<u64>,
    ) -> Result<(), ParquetError> {
        let cells: Vec<Option<i64>> = all.iter().map(|it| of(it).map(u64::cast_signed)).collect();
        column::<Int64Type>(group, &cells, is_optional)
    }

    fn numbers(
        group: &mut Group<'_>,
        all: &[MetricSummary],
        is_optional: bool,
        of: impl Fn(&MetricSummary) -> Option<f64>,
    ) -> Result<(), ParquetError> {
        let cells: Vec<Option<f64>> = all.iter().map(of).collect();
        column::<DoubleType>(group, &cells, is_optional)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::summarize_metrics;
    use codex_core::files;

    fn summaries() -> MetricSummaries {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("m.ndjson");
        let lines = [
            r#"{"timestamp":"t1","run_id":"a","step":1,"split":"train","metric":"loss","value":4.5}"#,
            r#"{"timestamp":"t2","run_id":"a","step":2,"split":"train","metric":"loss","value":1234.5678}"#,
            r#"{"run_id":"b","step":3,"split":"train","metric":"=1+1,\"x\"","dataset":"d","value":"NaN"}"#,
            "x",
            "",
        ];
        files::write_atomic(&path, lines.join("\n").as_bytes()).unwrap();
        summarize_metrics(&[path]).unwrap()
    }

    #[test]
    fn a_table_and_csv_and_json_say_the_same() {
        let all = summaries();
        let table = to_table(&all);
        let expected = "run  split  metric    dataset  n  not finite  first     last  min  at step      max  at step     mean\n\
                        a    train  loss      -        2           0    4.5  1234.57  4.5        1  1234.57        2  619.534\n\
                        b    train  =1+1,\"x\"  d        1           1      -        -    -        -        -        -        -\n\
                        1 line could not be read\n";
        assert_eq!(table, expected);
        let csv = to_csv(&all).unwrap();
        let expected =
            "a,train,loss,,2,0,1,t1,4.5,2,t2,1234.5678,1,4.5,2,1234.5678,619.5339\nb,train,\"=1+1,\"\"x\"\"\",d,1,1,3,,NaN,3,,NaN,,,,,\n";
        assert_eq!(csv, format!("{}\n{expected}", COLUMNS.join(",")));
        let json: serde_json::Value = serde_json::from_str(&to_json(&all).unwrap()).unwrap();
        assert_eq!(
            (&json["bad_lines"], &json["metrics"][0]["max_step"], &json["metrics"][1]["min_step"]),
            (&1.into(), &2.into(), &serde_json::Value::Null)
        );
        // Every column is a field of the JSON.
        assert!(COLUMNS.iter().all(|column| json["metrics"][0].get(column).is_some()));
    }

    #[test]
    fn short_numbers_have_six_digits_and_control_characters_are_shown() {
        let cases = [
            (0.0, "0"),
            (1e-7, "1.00000e-7"),
            (123_456.7, "123457"),
            (0.012_345_678, "0.01235"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "Infinity"),
            (100.0, "100"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
        assert_eq!(text_table(&["a"], 1, [vec!["x\u{1b}[1m".to_owned()]]), "a\nx\u{fffd}[1m\n");
    }

    #[cfg(feature = "parquet")]
    #[test]
    fn a_parquet_file_has_a_row_for_each_and_nulls_for_what_is_absent() {
        use parquet::file::reader::FileReader as _;
        use parquet::record::RowAccessor as _;
        let bytes = to_parquet(&summaries()).unwrap();
        assert_eq!(bytes, to_parquet(&summaries()).unwrap());
        let root = tempfile::tempdir().unwrap();
        files::write_atomic(&root.path().join("s.parquet"), &bytes).unwrap();
        let file = files::open(&root.path().join("s.parquet")).unwrap();
        let reader = parquet::file::serialized_reader::SerializedFileReader::new(file).unwrap();
        let names: Vec<String> = reader.metadata().file_metadata().schema_descr().columns().iter().map(|it| it.name().to_owned()).collect();
        assert_eq!(names, COLUMNS);
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!((rows.len(), rows[0].get_string(0).unwrap().as_str(), rows[0].get_double(16).unwrap()), (2, "a", 619.5339));
        assert_eq!((rows[1].get_string(3).unwrap().as_str(), rows[1].get_ulong(4).unwrap()), ("d", 1));
        assert!(rows[1].get_double(13).is_err() && rows[0].get_string(3).is_err() && rows[1].get_double(8).unwrap().is_nan());
        assert!(to_parquet(&MetricSummaries::default()).is_ok());
    }
}
