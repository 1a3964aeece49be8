//! What filters leave out: counted, listed, and part of what decides the cache.

use codex_core::files;
use codex_data::{DataConfig, DataError, Duplicates, FilterConfig, LeftOut, TokenCache, open_sources};

use crate::Place;

#[test]
fn what_a_filter_leaves_out_is_counted_listed_and_part_of_the_key() {
    let place = Place::new();
    let rows = ["one of those", "one of those", "x", "it says so it says so", "!!!! ???? ----", "one of these"];
    let rows: Vec<String> = rows.iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n").collect();
    place.write("rows.jsonl", rows.concat());
    let plain = place.config(&["rows.jsonl"]);
    let filter = FilterConfig { min_chars: 2, max_symbols: 0.5, duplicates: Duplicates::Exact, ..FilterConfig::default() };
    let config = DataConfig { filter, ..plain.clone() };
    let cache = place.prepare(&config).unwrap();
    assert_ne!(cache.key(), place.prepare(&plain).unwrap().key());
    let manifest = cache.manifest();
    assert_eq!((manifest.splits.train.documents, manifest.account.read, manifest.account.filtered.rows), (3, 6, 3));
    let reasons = [("duplicate", 1), ("symbols", 1), ("too_short", 1)].map(|(reason, n)| (reason.to_owned(), n));
    assert_eq!(manifest.account.filtered.by_reason, reasons.into());
    assert!(
        cache.notes()[0].contains("3 documents were left out by `data.filter` (1 duplicate, 1 symbols, 1 too short)"),
        "{:?}",
        cache.notes()
    );
    let list = files::read_to_string(&cache.folder().join("left_out.ndjson")).unwrap();
    let listed: Vec<LeftOut> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<String> = listed.iter().map(|one| format!("{} {}", place.told(&one.origin), one.reason)).collect();
    assert_eq!(told, ["D/rows.jsonl:2 duplicate", "D/rows.jsonl:3 too_short", "D/rows.jsonl:5 symbols"]);
    assert_eq!(place.told(&listed[0].like.as_ref().unwrap()), "D/rows.jsonl:1");
    assert_eq!((manifest.left_out.as_ref().unwrap().rows, manifest.left_out.as_ref().unwrap().bytes), (3, list.len() as u64));
    // The tokenizer is trained on the same documents.
    let sources = open_sources(&config, &[]).unwrap();
    assert_eq!(codex_data::train_texts(&sources, &config, &place.scanner).count(), 3);
    // A list that was changed is a damaged cache.
    files::write_atomic(&cache.folder().join("left_out.ndjson"), list.replace("symbols", "too_long").as_bytes()).unwrap();
    assert!(matches!(TokenCache::open(cache.folder()), Err(DataError::CorruptCache { .. })));
    // Nothing left is an error that says where it went.
    let nothing = DataConfig { filter: FilterConfig { min_chars: 1000, ..FilterConfig::default() }, ..plain };
    assert!(place.prepare(&nothing).unwrap_err().to_string().contains('6'));
}
