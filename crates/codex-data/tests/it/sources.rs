//! Which files are read, in which order, and what is said of those that are not.

use codex_core::{Digest, Failure};
use codex_data::{DataConfig, DataError, DataSource as _, FolderSource, MemorySource, OnBadRow, open_sources, train_texts};

use crate::Place;

/// What is read, as messages list it.
#[cfg(not(feature = "parquet"))]
pub(crate) const ALL: &str = "`.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt`, `.md`, each also with `.gz` or `.zst`";
#[cfg(feature = "parquet")]
pub(crate) const ALL: &str = "`.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt`, `.md`, each also with `.gz` or `.zst`, and `.parquet`";

fn texts(place: &Place, config: &DataConfig) -> Vec<String> {
    let sources = open_sources(config, &place.builtins).unwrap();
    train_texts(&sources, config, &place.scanner).map(Result::unwrap).collect()
}

fn refused(place: &Place, config: &DataConfig) -> (DataError, String) {
    let error = open_sources(config, &place.builtins).unwrap_err();
    let told = place.told(&error);
    (error, told)
}

#[test]
fn a_folder_is_read_in_name_order_to_its_depth() {
    let place = Place::new();
    place.write("data/b.txt", "B");
    place.write("data/a/z.md", "AZ");
    place.write("data/a/deep/q.JSONL", "{\"text\": \"AQ1\"}\n{\"text\": \"AQ2\"}");
    place.write("data/c.ndjson", "{\"text\": \"C\"}");
    place.write("data/.hidden/x.txt", "hidden");
    place.write("data/image.png", "not read");
    place.write("data/README", "not read");
    let config = place.config(&["data"]);
    assert_eq!(texts(&place, &config), ["AQ1", "AQ2", "AZ", "B", "C"]);
    let sources = open_sources(&config, &[]).unwrap();
    let paths: Vec<String> = sources.checksums().unwrap().iter().map(|checksum| place.told(&checksum.path)).collect();
    assert_eq!(paths, ["D/data/a/deep/q.JSONL", "D/data/a/z.md", "D/data/b.txt", "D/data/c.ndjson"]);
    let notes = sources.notes();
    assert_eq!(place.told(&notes[0]), format!("`D/data`: 2 files that do not end in {ALL} are passed over"));
}

#[test]
fn a_folders_checksum_moves_with_any_byte_or_name() {
    let place = Place::new();
    place.write("data/a.txt", "A");
    place.write("data/b.txt", "B");
    let folder = || FolderSource::open(&place.path("data"), &DataConfig::default()).unwrap();
    let first = folder().checksum().unwrap();
    assert_eq!(first.bytes, 2);
    place.write("data/b.txt", "C");
    let second = folder().checksum().unwrap();
    assert_ne!(first.blake3, second.blake3);
    codex_core::files::rename_new(&place.path("data/b.txt"), &place.path("data/c.txt")).unwrap();
    assert_ne!(folder().checksum().unwrap().blake3, second.blake3);
    assert!(format!("{:?}", folder()).contains("files: 2"));
}

#[test]
fn a_checksum_is_plain_json() {
    let place = Place::new();
    place.write("a.txt", "abc");
    let sources = open_sources(&place.config(&["a.txt"]), &[]).unwrap();
    let json = serde_json::to_string(&sources.checksums().unwrap()).unwrap();
    let expected = format!(r#"[{{"path":"D/a.txt","bytes":3,"blake3":"{}"}}]"#, Digest::of_bytes(b"abc"));
    assert_eq!(place.told(&json), expected);
    assert_eq!(place.told(&format!("{sources:?}")), r#"Sources { train: ["D/a.txt"], validation: [], sets: [], said: [] }"#);
}

#[test]
fn names_that_lead_nowhere_are_refused_with_a_hint() {
    let mut place = Place::new();
    place.builtins = vec![MemorySource::new("austen/train", "x"), MemorySource::new("austen/validation", "y")];
    place.write("a.xml", "text\nx");
    place.write("README", "x");
    place.write("empty/x.png", "x");
    let table = [
        ("no.jsonl", 3, "`D/no.jsonl`, named in `data.train`, does not exist", "check `data.train`"),
        ("a.xml", 3, &format!("`D/a.xml` has the extension `xml`; expected one of {ALL}"), "convert the text"),
        ("README", 3, &format!("`D/README` has the extension ``; expected one of {ALL}"), "convert the text"),
        ("empty", 3, &format!("folder `D/empty` holds no file with the extension {ALL}"), "convert the text"),
        (
            "builtin:austen/trian",
            2,
            "unknown built-in source `builtin:austen/trian`; known: austen/train, austen/validation",
            "did you mean `builtin:austen/train`?",
        ),
    ];
    for (name, code, message, hint) in table {
        let (error, told) = refused(&place, &place.config(&[name]));
        assert_eq!((error.exit_class().code(), told.as_str()), (code, message));
        assert!(error.hint().unwrap().starts_with(hint), "{:?}", error.hint());
    }
    place.builtins.clear();
    let (error, told) = refused(&place, &place.config(&["builtin:x"]));
    assert_eq!(told, "unknown built-in source `builtin:x`; known: none");
    assert_eq!(error.hint().unwrap(), "this program has no built-in source; name a file or a folder");
    place.builtins = vec![MemorySource::new("austen", "x")];
    assert_eq!(
        refused(&place, &place.config(&["builtin:zzz"])).0.hint().unwrap(),
        "use one of the known names, or name a file or a folder"
    );
    let (error, told) = refused(&place, &DataConfig::default());
    assert_eq!(error.hint().unwrap(), "correct `data.train` in the configuration");
    assert_eq!(told, "data.train: expected at least one file, folder or `builtin:` source, found an empty list");
    assert_eq!(error.exit_class().code(), 2);
    let missing = DataConfig { validation: vec!["no/such".to_owned()], ..place.config(&["empty/../a.jsonl"]) };
    place.write("a.jsonl", "");
    assert_eq!(refused(&place, &missing).1, "`no/such`, named in `data.validation`, does not exist");
}

#[cfg(unix)]
#[test]
fn a_folder_that_contains_itself_and_a_socket_are_refused() {
    let place = Place::new();
    place.write("loop/a.txt", "A");
    std::os::unix::fs::symlink(place.path("loop"), place.path("loop/again")).unwrap();
    let (error, told) = refused(&place, &place.config(&["loop"]));
    assert!(told.ends_with("is nested more than 32 folders deep"), "{told}");
    assert!(error.hint().unwrap().contains("link"));
    let config = DataConfig { train: vec!["/dev/null".to_owned()], ..DataConfig::default() };
    let (error, told) = refused(&place, &config);
    assert_eq!(told, "`/dev/null` is neither a plain file nor a folder");
    assert!(error.hint().unwrap().contains("plain file"));
}

#[test]
fn a_bad_row_ends_the_reading_or_is_skipped_and_listed() {
    let place = Place::new();
    place.write("a.jsonl", "{\"text\":\"one\"}\nnot json\n{\"txt\":\"x\"}\n{\"text\":\"two\"}\n[\"text\"]");
    place.write("bad.txt", b"caf\xE9");
    let config = place.config(&["a.jsonl", "bad.txt"]);
    let sources = open_sources(&config, &[]).unwrap();
    let mut read = train_texts(&sources, &config, &place.scanner);
    assert_eq!(read.next().unwrap().unwrap(), "one");
    let error = read.next().unwrap().unwrap_err();
    assert_eq!(place.told(&error), "`D/a.jsonl:2:2`: not JSON: expected ident");
    assert_eq!(error.exit_class().code(), 3);
    assert!(error.hint().unwrap().contains("`skip`"));
    assert!(read.next().is_none(), "the first error is the last");

    let skipping = DataConfig { on_bad_row: OnBadRow::Skip, ..config };
    let mut read = train_texts(&sources, &skipping, &place.scanner);
    assert_eq!(read.by_ref().map(Result::unwrap).collect::<Vec<_>>(), ["one", "two"]);
    let skipped = &read.documents().account().skipped;
    assert_eq!(skipped.rows, 4);
    let listed: Vec<String> = skipped.first.iter().map(|row| place.told(row)).collect();
    assert_eq!(
        listed,
        [
            "`D/a.jsonl:2:2`: not JSON: expected ident",
            "`D/a.jsonl:3`: no field `text`; the row has `txt`",
            "`D/a.jsonl:5`: expected an object, found an array",
            "`D/bad.txt:1:4`: byte 0xe9 at offset 3 is not UTF-8",
        ]
    );
    assert_eq!(
        skipped.by_reason.iter().map(|(code, n)| (code.as_str(), *n)).collect::<Vec<_>>(),
        [("missing_field", 1), ("not_an_object", 1), ("not_json", 1), ("not_utf8", 1)]
    );
    assert!(format!("{read:?}").contains("TrainTexts"));
}

#[test]
fn a_missing_field_advises_the_nearest() {
    let place = Place::new();
    place.write("a.jsonl", "{\"txt\":\"x\"}");
    let error = place.prepare(&place.config(&["a.jsonl"])).unwrap_err();
    assert_eq!(error.hint().unwrap(), "set `data.text_field` to the right one; did you mean `txt`?");
    let config = DataConfig { text_field: "txt".to_owned(), ..place.config(&["a.jsonl"]) };
    assert_eq!(texts(&place, &config), ["x"]);
}

#[test]
fn another_encoding_is_refused_even_when_bad_rows_are_skipped() {
    let place = Place::new();
    let table: [(&[u8], &str, &str); 5] = [
        (
            b"{\0\"\0",
            "UTF-16 (little-endian, without a byte order mark)",
            "convert it with `iconv -f UTF-16LE -t UTF-8 'D/a.jsonl' > 'utf8-a.jsonl'`",
        ),
        (
            b"\0{\0\"",
            "UTF-16 (big-endian, without a byte order mark)",
            "convert it with `iconv -f UTF-16BE -t UTF-8 'D/a.jsonl' > 'utf8-a.jsonl'`",
        ),
        (b"\xFF\xFE\0\0{\0\0\0", "UTF-32", "convert it with `iconv -f UTF-32 -t UTF-8 'D/a.jsonl' > 'utf8-a.jsonl'`"),
        (b"%PDF-1.7\n", "a PDF document", "write its text to a file"),
        (b"\xFD7zXZ\0", "compressed with xz", "decompress it first, or compress it with gzip or zstd"),
    ];
    for (bytes, found, hint) in table {
        place.write("a.jsonl", bytes);
        let config = DataConfig { on_bad_row: OnBadRow::Skip, ..place.config(&["a.jsonl"]) };
        let error = place.prepare(&config).unwrap_err();
        assert_eq!((error.exit_class().code(), place.told(&error)), (3, format!("`D/a.jsonl` is {found}; expected UTF-8 text")));
        assert!(place.told(&error.hint().unwrap()).starts_with(hint), "{:?}", error.hint());
    }
}

#[test]
fn validation_documents_stay_out_of_the_tokenizers_texts() {
    let place = Place::new();
    let rows: Vec<String> = (0..200).map(|i| format!("{{\"text\":\"document {i}\"}}\n")).collect();
    place.write("a.jsonl", rows.concat());
    place.write("v.txt", "held out");
    let half = DataConfig { validation_fraction: 0.5, ..place.config(&["a.jsonl"]) };
    let some = texts(&place, &half);
    assert!((60..140).contains(&some.len()), "{}", some.len());
    let named = DataConfig { validation: vec![place.path("v.txt").display().to_string()], ..half };
    assert_eq!(texts(&place, &named).len(), 200, "with named validation files all of `train` is trained on");
}

pub(crate) fn zstd(text: &str) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
}

pub(crate) fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_same_rows_come_from_every_format_compressed_or_not() {
    let place = Place::new();
    let jsonl = "{\"text\": \"one, \\\"1\\\"\"}\n{\"text\": \"two\\nlines\"}\n";
    let array = "[\n  {\"text\": \"one, \\\"1\\\"\"},\n  {\"text\": \"two\\nlines\"}\n]\n";
    let table = "id,text\n1,\"one, \"\"1\"\"\"\n2,\"two\nlines\"\n";
    let tabs = "id\ttext\n1\t\"one, \"\"1\"\"\"\n2\t\"two\nlines\"\n";
    for (name, text) in [("a.jsonl", jsonl), ("a.json", array), ("a.csv", table), ("a.tsv", tabs)] {
        place.write(name, text);
        place.write(&format!("{name}.gz"), gzip(text));
        place.write(&format!("{name}.zst"), zstd(text));
        let mut digests = Vec::new();
        for end in ["", ".gz", ".zst"] {
            let config = place.config(&[&format!("{name}{end}")]);
            assert_eq!(texts(&place, &config), ["one, \"1\"", "two\nlines"], "{name}{end}");
            let sources = open_sources(&config, &[]).unwrap();
            digests.push(codex_data::documents_digest(&config, &sources, Digest::of_bytes(b"")).unwrap());
        }
        assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2], "{name}");
    }
    place.write("b.txt.gz", [gzip("first "), gzip("second")].concat());
    assert_eq!(texts(&place, &place.config(&["b.txt.gz"])), ["first second"]);
    // The line of a row that cannot be used, in each.
    place.write("bad.json", "[{\"text\": \"a\"},\n {\"txt\": 1}]");
    place.write("bad.csv", "text,n\na,1\nb\n");
    for (name, expected) in
        [("bad.json", "`D/bad.json:2`: no field `text`; the row has `txt`"), ("bad.csv", "`D/bad.csv:3`: expected 2 fields, found 1")]
    {
        let config = place.config(&[name]);
        let sources = open_sources(&config, &[]).unwrap();
        let error = train_texts(&sources, &config, &place.scanner).find_map(Result::err).unwrap();
        assert_eq!(place.told(&error), expected);
    }
    let cut = gzip(&jsonl.repeat(100));
    place.write("cut.jsonl.gz", &cut[..cut.len() - 4]);
    let config = place.config(&["cut.jsonl.gz"]);
    let sources = open_sources(&config, &[]).unwrap();
    let error = train_texts(&sources, &config, &place.scanner).find_map(Result::err).unwrap();
    assert_eq!(error.exit_class().code(), 4);
    assert!(place.told(&error).starts_with("cannot decompress `D/cut.jsonl.gz`: ") && error.hint().unwrap().contains("gzip -t"), "{error}");
}

#[test]
fn a_pattern_names_the_files_that_match() {
    let place = Place::new();
    for name in ["b-2.txt", "b-1.txt", "c-1.txt", "deep/b-3.txt", ".b-4.txt"] {
        place.write(&format!("data/{name}"), name);
    }
    place.write("data/b-5.png", "x");
    assert_eq!(texts(&place, &place.config(&["data/b-*.txt"])), ["b-1.txt", "b-2.txt"]);
    assert_eq!(texts(&place, &place.config(&["data/**/b-?.txt"])), ["b-1.txt", "b-2.txt", "deep/b-3.txt"]);
    let config = place.config(&["data/[bc]-1.*"]);
    assert_eq!(texts(&place, &config), ["b-1.txt", "c-1.txt"]);
    let both = place.config(&["data/b-*"]);
    assert!(place.told(&open_sources(&both, &[]).unwrap().notes()[0]).contains("1 files that do not end in"));
    let (error, told) = refused(&place, &place.config(&["data/x-*.txt"]));
    assert_eq!((error.exit_class().code(), told.as_str()), (3, "`D/data/x-*.txt`, named in `data.train`, does not exist"));
    let (error, told) = refused(&place, &place.config(&["data/b-[*.txt"]));
    assert!(error.exit_class().code() == 2 && told.contains("Pattern syntax error"), "{told}");
}

#[test]
fn a_folder_that_holds_a_split_is_read_as_one() {
    let place = Place::new();
    for name in ["train", "valid", "test"] {
        place.write(&format!("split/{name}.jsonl"), format!("{{\"text\": \"{name}\"}}\n"));
    }
    let config = place.config(&["split"]);
    let sources = open_sources(&config, &[]).unwrap();
    assert_eq!(texts(&place, &config), ["train"]);
    assert_eq!((sources.train.len(), sources.validation.len()), (1, 1));
    assert_eq!(
        place.told(&sources.notes()[0]),
        "`D/split`: `train.jsonl` is trained on, `valid.jsonl` is validated on, `test.jsonl` is left out"
    );
    // What the configuration says of validation goes before.
    for config in [
        DataConfig { validation_fraction: 0.5, ..config.clone() },
        DataConfig { validation: vec![place.path("split/test.jsonl").display().to_string()], ..config.clone() },
    ] {
        let sources = open_sources(&config, &[]).unwrap();
        assert!(sources.notes()[0].contains("left out, because the configuration says"), "{:?}", sources.notes());
        assert_eq!(sources.validation.len(), config.validation.len());
    }
    // With anything else in it, it is a folder like any other.
    place.write("split/more.jsonl", "{\"text\": \"more\"}");
    assert_eq!(texts(&place, &config), ["more", "test", "train", "valid"]);
}

#[test]
fn splits_are_found_whatever_their_files_are_written_as_and_in_folders() {
    let place = Place::new();
    let row = |text: &str| format!("{{\"text\": \"{text}\"}}\n");
    let both = |place: &Place, name: &str| {
        let config = place.config(&[name]);
        let sources = open_sources(&config, &[]).unwrap();
        let texts_of = |sources: &[Box<dyn codex_data::DataSource>]| -> Vec<String> {
            let documents = sources.iter().flat_map(|source| source.documents().unwrap());
            documents.map(|document| document.unwrap().content.text().into_owned()).collect()
        };
        (texts_of(&sources.train), texts_of(&sources.validation), sources.notes().iter().map(|note| place.told(note)).collect::<Vec<_>>())
    };
    // Without a test file, with other spellings, compressed.
    place.write("a/train.jsonl.gz", gzip(&row("t")));
    place.write("a/validation.json", "[{\"text\": \"v\"}]");
    assert_eq!(both(&place, "a").2, ["`D/a`: `train.jsonl.gz` is trained on, `validation.json` is validated on"]);
    assert_eq!((both(&place, "a").0, both(&place, "a").1), (vec!["t".to_owned()], vec!["v".to_owned()]));
    // A folder for each split, with any number of files below it.
    for (file, text) in
        [("train/2.jsonl", "t2"), ("train/1.jsonl", "t1"), ("train/deep/3.jsonl", "t3"), ("valid/x.jsonl", "v"), ("test/x.jsonl", "no")]
    {
        place.write(&format!("b/{file}"), row(text));
    }
    let (train, validation, notes) = both(&place, "b");
    assert_eq!((train.join(" ").as_str(), validation.join(" ").as_str()), ("t1 t2 t3", "v"));
    assert_eq!(notes, ["`D/b`: `train` is trained on, `valid` is validated on, `test` is left out"]);
    // One of each is no split of one kind, and two for one split are no split at all.
    place.write("c/train.jsonl", row("t"));
    place.write("c/valid/x.jsonl", row("v"));
    assert_eq!(both(&place, "c").1, ["v"]);
    place.write("c/val.jsonl", row("w"));
    let (train, validation, _) = both(&place, "c");
    assert_eq!((train.join(" ").as_str(), validation.len()), ("t w v", 0));
    // What must not be trained on is not, with a validation file or without; what is no data is in nobody's way.
    place.write("d/train.jsonl", row("t"));
    place.write("d/test.jsonl", row("no"));
    for name in ["README.md", "LICENSE", ".gitattributes", "card.yaml"] {
        place.write(&format!("d/{name}"), "about the data");
    }
    let (train, validation, notes) = both(&place, "d");
    assert_eq!((train, validation.len()), (vec!["t".to_owned()], 0));
    assert_eq!(notes, ["`D/d`: `train.jsonl` is trained on, `test.jsonl` is left out"]);
    place.write("e/train.jsonl", row("t"));
    assert_eq!(both(&place, "e"), (vec!["t".to_owned()], vec![], vec![]));
}
