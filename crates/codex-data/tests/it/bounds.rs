//! What is read is bounded in every format, and what is beyond has its error and its place; the rows after it are read all the same.
//!
//! The bounds of a Parquet row and of nested columns are in `parquet.rs`.

use codex_core::Failure;
use codex_data::{DataConfig, OnBadRow, RowKind, open_sources, train_texts};

use crate::Place;
use crate::sources::gzip;

/// What is said of each document of a file: its text, or the error.
fn read(place: &Place, name: &str, max_row_bytes: usize, rows: RowKind) -> Vec<String> {
    let config = DataConfig { max_row_bytes, rows, ..place.config(&[name]) };
    let sources = open_sources(&config, &[]).unwrap();
    let documents = sources.train[0].documents().unwrap();
    let said = documents.map(|document| match document {
        Ok(document) => document.content.text().into_owned(),
        Err(error) => {
            assert!(error.exit_class().code() == 3 && error.hint().is_some(), "{error}");
            place.told(&error)
        }
    });
    said.collect()
}

#[test]
fn rows_and_texts_have_at_most_so_many_bytes() {
    let place = Place::new();
    let long = "x".repeat(5000);
    for (name, bytes, expected) in [
        ("a.jsonl", format!("{{\"text\": \"a\"}}\n{{\"text\": \"{long}\"}}\n{{\"text\": \"b\"}}"), "2"),
        ("a.json", format!("[{{\"text\": \"a\"}},\n{{\"text\": \"{long}\"}},\n{{\"text\": \"b\"}}]"), "2"),
        ("a.csv", format!("text\na\n\"{long}\"\nb\n"), "3"),
        ("a.tsv", format!("text\na\n{long}\nb\n"), "3"),
    ] {
        place.write(name, &bytes);
        place.write(&format!("{name}.gz"), gzip(&bytes));
        for name in [name.to_owned(), format!("{name}.gz")] {
            let expected = format!("`D/{name}:{expected}`: longer than 1000 bytes");
            assert_eq!(read(&place, &name, 1000, RowKind::Text), ["a", &expected, "b"]);
        }
    }
    place.write("a.txt", &long);
    assert_eq!(read(&place, "a.txt", 1000, RowKind::Text), ["`D/a.txt`: longer than 1000 bytes"]);
    // Far more than fits the buffers, without an end.
    for (name, start, line) in [("b.jsonl", "{\"text\": \"", 1), ("b.json", "[{\"text\": \"", 1), ("b.csv", "text\n\"", 2)] {
        place.write(name, format!("{start}{}", "x".repeat(3 << 20)));
        assert_eq!(read(&place, name, 1000, RowKind::Text)[0], format!("`D/{name}:{line}`: longer than 1000 bytes"));
    }
    // A table without names cannot be read on from, one with too many fields neither.
    place.write("c.csv", format!("{long}\na\n"));
    assert_eq!(read(&place, "c.csv", 1000, RowKind::Text), ["`D/c.csv:1`: longer than 1000 bytes"]);
    place.write("d.csv", format!("text\n{}\nb\n", ",".repeat(9000)));
    assert_eq!(read(&place, "d.csv", 1 << 20, RowKind::Text), ["`D/d.csv:2`: longer than 1048576 bytes", "b"]);
    let config = DataConfig { max_row_bytes: 1000, on_bad_row: OnBadRow::Skip, ..place.config(&["a.jsonl", "a.json", "a.csv", "a.txt"]) };
    let sources = open_sources(&config, &[]).unwrap();
    let mut texts = train_texts(&sources, &config, &place.scanner);
    assert_eq!(texts.by_ref().map(Result::unwrap).collect::<String>(), "ababab");
    assert_eq!(texts.documents().account().skipped.by_reason["too_long"], 4);
}

#[test]
fn values_are_nested_at_most_so_deep() {
    let place = Place::new();
    for (open, close) in [("[", "]"), ("{\"a\": ", "}")] {
        for depth in [100, 100_000] {
            let deep = format!("{{\"text\": \"a\", \"prompt\": {}1{}}}", open.repeat(depth), close.repeat(depth));
            place.write("a.jsonl", format!("{deep}\n{{\"text\": \"b\"}}\n"));
            place.write("a.json", format!("[{{}},\n{deep},\n{{\"text\": \"b\"}}]"));
            for rows in [RowKind::Auto, RowKind::Text] {
                let (lines, array) = (read(&place, "a.jsonl", 16 << 20, rows), read(&place, "a.json", 16 << 20, rows));
                if depth == 100 {
                    assert_eq!((lines[0].as_str(), array[1].as_str()), ("a", "a"));
                } else {
                    assert!(lines[0].starts_with("`D/a.jsonl:1:") && lines[0].ends_with("recursion limit exceeded"), "{}", lines[0]);
                    assert_eq!(array[1], "`D/a.json:2`: not JSON: recursion limit exceeded");
                }
                assert_eq!((lines[1].as_str(), array[2].as_str()), ("b", "b"), "the rows after it are read");
            }
        }
    }
}
