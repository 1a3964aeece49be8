//! What a file is taken for, by its first bytes where its name says another thing or nothing, and what is said of it.

use codex_core::{Digest, Failure};
use codex_data::{DataConfig, DataError, FieldDescription, SourceDescription, documents_digest, open_sources, train_texts};
use codex_safety::{Action, SafetyConfig, Scanner};

use crate::Place;
use crate::sources::{ALL, gzip, zstd};

/// The texts of a file, and what is said of it.
fn read(place: &Place, name: &str) -> Result<(Vec<String>, Vec<String>), DataError> {
    let config = place.config(&[name]);
    let sources = open_sources(&config, &[])?;
    let texts = train_texts(&sources, &config, &place.scanner).collect::<Result<_, _>>()?;
    Ok((texts, sources.notes().iter().map(|note| place.told(note)).collect()))
}

const LINES: &str = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
const ARRAY: &str = "[\n{\"text\": \"one\"},\n{\"text\": \"two\"}]\n";
const COMMAS: &str = "id,text\n1,one\n2,two\n";
const TABS: &str = "id\ttext\n1\tone\n2\ttwo\n";

#[test]
fn rows_are_found_whatever_the_name_says_and_told() {
    let utf16 = |text: &str| -> Vec<u8> { format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let table: [(&str, Vec<u8>, &str); 19] = [
        ("a.jsonl", LINES.into(), ""),
        ("a.json", ARRAY.into(), ""),
        ("a.txt", LINES.into(), "JSON lines"),
        ("b.txt", ARRAY.into(), "a JSON array"),
        ("b.json", LINES.into(), "JSON lines"),
        ("b.jsonl", ARRAY.into(), "a JSON array"),
        ("c.jsonl", COMMAS.into(), "a table with commas (CSV)"),
        ("a.csv", LINES.into(), "JSON lines"),
        ("b.csv", TABS.into(), "a table with tabs (TSV)"),
        ("a.tsv", COMMAS.into(), "a table with commas (CSV)"),
        ("rows", LINES.into(), "JSON lines"),
        ("rows.data", ARRAY.into(), "a JSON array"),
        ("table", COMMAS.into(), "a table with commas (CSV)"),
        ("packed", gzip(LINES), "compressed with gzip, JSON lines"),
        ("d.jsonl", zstd(LINES), "compressed with zstd"),
        ("e.jsonl.gz", zstd(ARRAY), "compressed with zstd, a JSON array"),
        ("f.jsonl.gz", LINES.into(), "not compressed"),
        ("g.jsonl", utf16(LINES), "UTF-16LE (columns in messages count bytes of UTF-8)"),
        ("h.csv.gz", gzip("id,text\n1,one\n2,two\n"), ""),
    ];
    let place = Place::new();
    for (name, bytes, taken_for) in table {
        place.write(name, bytes);
        let (texts, notes) = read(&place, name).unwrap();
        assert_eq!(texts, ["one", "two"], "{name}");
        let expected = format!("`D/{name}` is read as {taken_for}, which is what it holds, whatever its name says");
        assert_eq!(notes, Vec::from_iter((!taken_for.is_empty()).then_some(expected)), "{name}");
    }
    // In a folder, the same of those whose name is one that is read.
    place.write("data/a.txt", LINES);
    place.write("data/b", LINES);
    let (texts, notes) = read(&place, "data").unwrap();
    assert_eq!(texts, ["one", "two"]);
    assert_eq!(notes[0], format!("`D/data`: 1 files that do not end in {ALL} are passed over"));
    assert_eq!(notes[1], "`D/data/a.txt` is read as JSON lines, which is what it holds, whatever its name says");
    for i in 0..30 {
        place.write(&format!("many/{i}.txt"), LINES);
    }
    let notes = read(&place, "many").unwrap().1;
    assert_eq!((notes.len(), notes[20].as_str()), (21, "`D/many`: 10 more files are not read as their names say"));
}

#[test]
fn what_is_not_certain_is_what_its_name_says() {
    let place = Place::new();
    let pretty = "{\n  \"text\": \"one\"\n}\n";
    for (name, text) in [
        ("a.md", LINES),
        ("a.txt", "{\"a\": 1}\n"),
        ("b.txt", "{\"text\": \"one\"}\nAnd so on.\n"),
        ("c.txt", "[1] A footnote.\n"),
        ("d.txt", COMMAS),
        ("e.txt", pretty),
        ("f.txt", ""),
    ] {
        place.write(name, text);
        let (texts, notes) = read(&place, name).unwrap();
        assert_eq!((texts.concat().as_str(), notes.len()), (text, 0), "{name}");
    }
    let long = format!("{{\"text\": \"{}\"}}\n", "x".repeat(300_000));
    for (name, text, expected) in [
        ("a.json", pretty, "`D/a.json:1`: not JSON: expected an array of objects, `[` first"),
        ("b.json", &long, "`D/b.json:1`: not JSON: expected an array of objects, `[` first"),
        ("a.jsonl", "[{\"text\": \"a\"}]\n[{\"text\": \"b\"}]\n", "`D/a.jsonl:1`: expected an object, found an array"),
        ("b.jsonl", "prose\n", "`D/b.jsonl:1:1`: not JSON: expected value"),
        ("README", "prose\n", &format!("`D/README` has the extension ``; expected one of {ALL}")),
        ("a.xml", "<text/>\n", &format!("`D/a.xml` has the extension `xml`; expected one of {ALL}")),
        ("a.doc", "PK\u{3}\u{4}", "`D/a.doc` is a zip archive, as Office documents are too; expected UTF-8 text"),
        ("a.txt", "%PDF-1.4\n", "`D/a.txt` is a PDF document; expected UTF-8 text"),
        ("a.txt.gz", "\u{1}", "cannot decompress `D/a.txt.gz`: unexpected end of file"),
    ] {
        place.write(name, text);
        let error = read(&place, name).unwrap_err();
        assert_eq!(place.told(&error), expected);
    }
}

#[test]
fn how_a_file_is_read_is_part_of_the_key() {
    let place = Place::new();
    let key = |name: &str, text: &str| {
        place.write(name, text);
        let config = place.config(&[name]);
        documents_digest(&config, &open_sources(&config, &[]).unwrap(), Digest::of_bytes(b"")).unwrap()
    };
    assert_eq!(key("a.txt", LINES), key("b.jsonl", LINES), "the same rows, read alike");
    assert_ne!(key("c.md", LINES), key("a.txt", LINES));
}

#[test]
fn a_description_says_what_a_file_holds() {
    let mut place = Place::new();
    let rows = "{\"id\": 1, \"text\": \"a\", \"more\": null}\noops\n{\"id\": \"x\", \"text\": \"b\", \"tags\": [], \"is\": true, \"o\": {}}\n{\"id\": 2}\n";
    place.write("a.txt.gz", gzip(rows));
    place.write("b.csv", "\u{feff}text,n\na,1\n");
    place.write("c.txt", "prose");
    place.scanner = Scanner::new(&SafetyConfig { personal_data: Action::Redact, ..SafetyConfig::default() }).unwrap();
    place.write("d.jsonl", "{\"text\": \"\", \"maria.keller@posteo.de\": 1}\n");
    let config = DataConfig {
        train: ["a.txt.gz", "b.csv", "c.txt", "d.jsonl"].map(|name| place.path(name).display().to_string()).to_vec(),
        ..DataConfig::default()
    };
    let sources = open_sources(&config, &[]).unwrap();
    let field = |name: &str, types: &[(&str, u64)]| FieldDescription {
        name: name.to_owned(),
        types: types.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
    };
    let told = |mut found: SourceDescription| {
        found.path = place.told(&found.path);
        found.note = found.note.map(|note| place.told(&note));
        found
    };
    let found: Vec<SourceDescription> = sources.describe(3, &place.scanner).unwrap().into_iter().map(told).collect();
    assert_eq!(found[0].note.as_deref(), None, "a row that is no object makes it uncertain");
    assert_eq!((found[0].format.as_str(), found[0].compression.as_deref()), ("one text", Some("gzip")));
    assert_eq!((found[1].encoding.as_deref(), found[1].rows), (Some("UTF-8 with a byte order mark"), 1));
    assert_eq!(found[1].fields, [field("text", &[("text", 1)]), field("n", &[("text", 1)])]);
    assert_eq!((found[2].format.as_str(), found[2].fields.len()), ("one text", 0));
    assert!(!serde_json::to_string(&found[3]).unwrap().contains("maria"), "names of fields obey the safety policy: {:?}", found[3]);
    place.write("a.jsonl", rows);
    let config = place.config(&["a.jsonl"]);
    let sources = open_sources(&config, &[]).unwrap();
    let found = told(sources.describe(3, &place.scanner).unwrap().remove(0));
    let expected = SourceDescription {
        path: "D/a.jsonl".to_owned(),
        format: "JSON lines".to_owned(),
        compression: None,
        encoding: Some("UTF-8".to_owned()),
        note: None,
        rows: 2,
        bad_rows: 1,
        fields: vec![
            field("id", &[("number", 1), ("text", 1)]),
            field("text", &[("text", 2)]),
            field("more", &[("null", 1)]),
            field("tags", &[("array", 1)]),
            field("is", &[("boolean", 1)]),
            field("o", &[("object", 1)]),
        ],
    };
    assert_eq!(found, expected);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["fields"][0], serde_json::json!({ "name": "id", "types": { "number": 1, "text": 1 } }));
    place.write("cut.jsonl.gz", &gzip(&rows.repeat(9))[..30]);
    let config = place.config(&["cut.jsonl.gz"]);
    let error = open_sources(&config, &[]).unwrap().describe(99, &place.scanner).unwrap_err();
    assert_eq!(error.exit_class().code(), 4);
}
