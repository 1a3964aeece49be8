//! Parquet files as pyarrow writes them, and what comes of them when they are cut or changed.

use std::path::PathBuf;

use codex_core::{Failure, files};
use codex_data::{DataConfig, DataError, Document, open_sources};

use crate::Place;

fn fixture(name: &str) -> PathBuf {
    std::path::absolute(format!("../../fixtures/parquet/{name}.parquet")).unwrap()
}

fn read(config: &DataConfig) -> Result<Vec<Result<Document, DataError>>, DataError> {
    let sources = open_sources(config, &[])?;
    Ok(sources.train[0].documents()?.collect())
}

#[cfg(feature = "parquet")]
fn config_of(path: &std::path::Path) -> DataConfig {
    DataConfig { train: vec![path.display().to_string()], ..DataConfig::default() }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_the_feature_it_is_refused_with_the_way_to_have_it() {
    let place = Place::new();
    let bytes = files::read(&fixture("snappy")).unwrap();
    place.write("data/a.parquet", &bytes);
    place.write("rows", &bytes);
    for (name, told) in [("data", "data/a.parquet"), ("data/a.parquet", "data/a.parquet"), ("rows", "rows")] {
        let error = read(&place.config(&[name])).unwrap_err();
        assert_eq!(place.told(&error), format!("`D/{told}` is a Parquet file, and this program was built without the feature `parquet`"));
        assert!(error.exit_class().code() == 3 && error.hint().unwrap().contains("--features parquet"), "{error}");
    }
}

#[cfg(feature = "parquet")]
mod with_the_feature {
    use codex_core::Digest;
    use codex_data::{Content, FieldDescription, RowKind, documents_digest};
    use proptest::prelude::*;

    use super::*;
    use crate::sources::gzip;

    /// Each document as `line: text`, or what is wrong.
    fn shown(config: &DataConfig) -> Vec<String> {
        let said = |document: Result<Document, DataError>| match document {
            Ok(document) => format!("{}: {}", document.origin.line.unwrap_or_default(), document.content.text()),
            Err(error) => error.to_string().rsplit_once(".parquet").map_or(error.to_string(), |(_, rest)| rest.to_owned()),
        };
        read(config).unwrap().into_iter().map(said).collect()
    }

    const TEXTS: [&str; 5] = ["1: one", ":2`: field `text`: expected text, found null", "3: three é😀", "4: ", "5: two\n\"lines\""];

    #[test]
    fn each_codec_gives_the_same_rows_with_their_numbers() {
        for codec in ["none", "snappy", "gzip"] {
            assert_eq!(shown(&config_of(&fixture(codec))), TEXTS, "{codec}");
        }
        let unread = |codec: &str| shown(&config_of(&fixture(codec))).concat();
        if cfg!(feature = "parquet-zstd") {
            assert_eq!(shown(&config_of(&fixture("zstd"))), TEXTS);
        } else {
            assert!(unread("zstd").contains("--features parquet-zstd"), "{}", unread("zstd"));
        }
        assert!(unread("brotli").contains("compressed with brotli, which is not read"), "{}", unread("brotli"));
        assert!(unread("lz4").contains("compressed with lz4, which is not read"), "{}", unread("lz4"));
        assert_eq!(shown(&config_of(&fixture("empty"))), [""; 0]);
    }

    #[test]
    fn lists_of_structs_are_chats_and_dictionaries_prompts() {
        let chats = read(&config_of(&fixture("chats"))).unwrap();
        let texts: Vec<_> = chats.iter().map(|chat| chat.as_ref().unwrap().content.text().into_owned()).collect();
        assert_eq!(texts, ["q0\na0", "q1\na1", "q2\na2"]);
        assert!(chats.iter().all(|chat| matches!(chat.as_ref().unwrap().content, Content::Chat { .. })));
        let pairs = read(&DataConfig { rows: RowKind::Prompt, ..config_of(&fixture("pairs")) }).unwrap();
        let last = pairs[2].as_ref().unwrap();
        assert_eq!(last.content, Content::Prompt { prompt: "same".to_owned(), completion: "c".to_owned() });
        assert_eq!(last.origin.line, Some(3));
    }

    #[test]
    fn values_of_each_kind_are_described() {
        let place = Place::new();
        let sources = open_sources(&config_of(&fixture("kinds")), &[]).unwrap();
        let found = sources.describe(10, &place.scanner).unwrap().remove(0);
        assert_eq!((found.format.as_str(), found.encoding, found.compression, found.rows), ("Parquet", None, None, 1));
        let types: Vec<String> = found
            .fields
            .iter()
            .map(|FieldDescription { name, types }| format!("{name} {}", types.keys().cloned().collect::<Vec<_>>().concat()))
            .collect();
        let expected = [
            "text text",
            "flag boolean",
            "bytes object",
            "when text",
            "day text",
            "price text",
            "big number",
            "half number",
            "tags array",
            "deep array",
            "map object",
            "nothing null",
            "large text",
        ];
        assert_eq!(types, expected);
        let of = |field: &str| shown(&DataConfig { text_field: field.to_owned(), ..config_of(&fixture("kinds")) }).concat();
        assert_eq!((of("day").as_str(), of("price").as_str(), of("large").as_str()), ("1: 2026-11-28", "1: 12.50", "1: l"));
        assert!(of("when").starts_with("1: 2026-11-28 16:00:00"), "{}", of("when"));
        assert!(of("bytes").contains("expected text, found an object"));
    }

    #[test]
    fn a_row_that_is_too_long_is_refused_and_the_others_stay() {
        let config = DataConfig { max_row_bytes: 40, ..config_of(&fixture("snappy")) };
        // As JSON, rows 3 and 5 have 43 and 45 bytes and the others 33.
        let expected = [TEXTS[0], TEXTS[1], ":3`: longer than 40 bytes", TEXTS[3], ":5`: longer than 40 bytes"];
        assert_eq!(shown(&config), expected);
        let config = DataConfig { max_row_bytes: 5, ..config };
        assert_eq!(shown(&config), [1, 2, 3, 4, 5].map(|row| format!(":{row}`: longer than 5 bytes")));
    }

    #[test]
    fn it_is_known_by_its_first_bytes_and_not_compressed() {
        let place = Place::new();
        let bytes = files::read(&fixture("snappy")).unwrap();
        place.write("rows.txt", &bytes);
        place.write("rows.parquet", &bytes);
        let config = place.config(&["rows.txt"]);
        assert_eq!(shown(&config).len(), 5);
        let notes = open_sources(&config, &[]).unwrap().notes();
        assert_eq!(place.told(&notes[0]), "`D/rows.txt` is read as Parquet, which is what it holds, whatever its name says");
        let key = |config: &DataConfig| documents_digest(config, &open_sources(config, &[]).unwrap(), Digest::of_bytes(b"")).unwrap();
        assert_eq!(key(&config), key(&place.config(&["rows.parquet"])));
        place.write("rows.parquet.gz", gzip("{\"text\": \"a\"}"));
        let told = |name: &str| place.told(&read(&place.config(&[name])).unwrap_err());
        assert_eq!(told("rows.parquet.gz"), "`D/rows.parquet.gz` is a compressed Parquet file; expected UTF-8 text");
        place.write("text.parquet", "some text that is no table");
        let cut = "it does not end as a Parquet file does; it is cut, or something else";
        assert_eq!(told("text.parquet"), format!("cannot read `D/text.parquet` as Parquet: {cut}"));
        place.write("none.parquet", "");
        assert_eq!(told("none.parquet"), format!("cannot read `D/none.parquet` as Parquet: {cut}"));
    }

    /// What is read of changed bytes: typed errors of integrity or of rows, and never more rows than a file of that size can hold.
    fn check_changed(place: &Place, bytes: &[u8], case: &str) -> bool {
        place.write("changed.parquet", bytes);
        let documents = match read(&place.config(&["changed.parquet"])) {
            Ok(documents) => documents,
            Err(error) => {
                assert!(
                    matches!(error, DataError::Unreadable { .. } | DataError::Encoding { .. } | DataError::Extension { .. }),
                    "{case}: {error}"
                );
                return false;
            }
        };
        for document in &documents {
            if let Err(error) = document {
                assert!(matches!(error, DataError::Unreadable { .. } | DataError::BadRow { .. }), "{case}: {error}");
                assert!(error.hint().is_some());
            }
        }
        documents.iter().all(Result::is_ok)
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_an_error() {
        let place = Place::new();
        for name in ["snappy", "chats", "kinds"] {
            let whole = files::read(&fixture(name)).unwrap();
            for len in (0..whole.len()).step_by(3) {
                assert!(!check_changed(&place, &whole[..len], &format!("{name} cut at {len}")), "{name} cut at {len}");
            }
        }
    }

    #[test]
    fn columns_that_are_nested_too_deeply_are_refused_before_the_stack_is_full() {
        let place = Place::new();
        let n = 300_000_u32;
        let mut footer = vec![0x15, 0x02, 0x19, 0xFC, (n & 0x7F) as u8 | 0x80, (n >> 7 & 0x7F) as u8 | 0x80, (n >> 14) as u8];
        for i in 0..n {
            footer.extend([0x48, 0x01, b'a', 0x15, if i + 1 == n { 0 } else { 2 }, 0]);
        }
        footer.extend([0x16, 0, 0x19, 0x0C, 0]);
        let length = (footer.len() as u32).to_le_bytes();
        place.write("deep.parquet", [&b"PAR1\x15\0\0\0"[..], &footer, &length, b"PAR1"].concat());
        let error = read(&place.config(&["deep.parquet"])).unwrap_err();
        assert_eq!(place.told(&error), "cannot read `D/deep.parquet` as Parquet: its columns are nested more than 100 levels deep");
        assert_eq!(error.exit_class().code(), 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_change_makes_the_reader_panic(at: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 1..4), which in 0_usize..4) {
            let place = Place::new();
            let mut changed = files::read(&fixture(["none", "chats", "kinds", "pairs"][which])).unwrap();
            let at = at.index(changed.len() - bytes.len());
            changed[at..at + bytes.len()].copy_from_slice(&bytes);
            check_changed(&place, &changed, &format!("{which} {at} {bytes:?}"));
        }
    }
}
