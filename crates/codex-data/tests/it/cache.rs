//! The token cache: what decides its key, and that it is never wrong, whatever happened to its files.

use std::sync::Mutex;

use codex_core::{Digest, ExitClass, Failure, files};
use codex_data::{DataConfig, DataError, MemorySource, OnBadRow, PrepareProgress, Split, TokenCache, WindowLoader, open_sources, prepare};
use codex_tokenize::{ByteTokenizer, Tokenizer};
use proptest::prelude::*;

use crate::{Place, content};

pub(super) fn digest() -> Digest {
    Digest::of_bytes(b"safety")
}

/// A place with a JSONL file, a text file and a held-out file.
fn place() -> (Place, DataConfig) {
    let place = Place::new();
    place.write("a.jsonl", "{\"text\":\"one\"}\n{\"text\":\"\"}\n{\"text\":\"two\"}\n");
    place.write("b.txt", "three é");
    place.write("v.txt", "held out");
    let config = DataConfig { validation: vec![place.path("v.txt").display().to_string()], ..place.config(&["a.jsonl", "b.txt"]) };
    (place, config)
}

#[test]
fn the_manifest_accounts_for_everything() {
    let (place, config) = place();
    let cache = place.prepare(&config).unwrap();
    let manifest = cache.manifest();
    assert_eq!(manifest.schema, codex_data::SCHEMA);
    assert_eq!(cache.folder(), place.cache_root().join(cache.key().to_string()));
    assert_eq!((manifest.vocab_size, manifest.bytes_per_token, manifest.end_of_text, manifest.pad), (258, 2, 0, 1));
    assert_eq!((manifest.num_records, manifest.account.read, manifest.account.empty), (4, 5, 1));
    let train = manifest.split(Split::Train);
    assert_eq!((train.documents, train.tokens, train.text_bytes, train.shards[0].path.as_str()), (3, 17, 14, "train-00000.tokens"));
    assert_eq!(train.shards[0].checksum, Digest::of_file(&cache.folder().join("train-00000.tokens")).unwrap());
    let validation = manifest.split(Split::Validation);
    assert_eq!(
        (validation.documents, validation.tokens, validation.document_shards[0].path.as_str()),
        (1, 9, "validation-00000.documents")
    );
    assert_eq!(manifest.tokenizer(), place.tokenizer.digest());
    assert!(manifest.is_of(&place.tokenizer));
    let sources = open_sources(&config, &[]).unwrap();
    assert_eq!(manifest.sources(), sources.checksums().unwrap());
    assert_eq!(cache.notes(), ["1 documents without text were left out"]);
    let names: Vec<String> = content(cache.folder()).into_iter().map(|(name, _)| name).collect();
    let of = |split: &str| ["counts", "documents", "tokens"].map(|kind| format!("{split}-00000.{kind}"));
    assert_eq!(names, [vec!["manifest.json".to_owned()], of("train").to_vec(), of("validation").to_vec()].concat());
    assert_eq!(cache.split(Split::Validation).document(0).unwrap().unwrap().origin.source, place.path("v.txt").display().to_string());
    let json: serde_json::Value = serde_json::from_slice(&content(cache.folder())[0].1).unwrap();
    assert_eq!(json["manifest"]["splits"]["train"]["count"], 3);
}

#[test]
fn the_same_recipe_finds_the_cache_and_a_new_one_is_the_same_byte_for_byte() {
    let (place, config) = place();
    let first = place.prepare(&config).unwrap();
    let sources = open_sources(&config, &[]).unwrap();
    let prepare_in = |root: &std::path::Path| {
        let mut calls = 0;
        let mut count = |_: PrepareProgress| calls += 1;
        let cache = prepare(&config, &sources, &place.tokenizer, &place.scanner, digest(), root, &mut count).unwrap();
        (cache, calls)
    };
    let (hit, calls) = prepare_in(&place.cache_root());
    assert_eq!((calls, hit.folder()), (0, first.folder()));
    let (rebuilt, calls) = prepare_in(&place.path("elsewhere"));
    assert_eq!(calls, 1);
    assert_eq!(content(first.folder()), content(rebuilt.folder()));
    // What does not decide the tokens does not decide the key.
    let other_use = DataConfig { shuffle: false, isolate_documents: true, cache_dir: Some("x".into()), ..config };
    assert_eq!(place.prepare(&other_use).unwrap().key(), first.key());
}

#[test]
fn another_source_byte_tokenizer_field_or_policy_is_another_key() {
    let (place, config) = place();
    let key = |place: &Place, config: &DataConfig| place.prepare(config).unwrap().key();
    let first = key(&place, &config);
    let mut keys = vec![first];
    keys.push(key(&place, &DataConfig { on_bad_row: OnBadRow::Skip, ..config.clone() }));
    keys.push(key(&place, &DataConfig { on_bad_row: OnBadRow::Skip, max_row_bytes: 1000, ..config.clone() }));
    keys.push(key(&place, &DataConfig { train: config.train.iter().rev().cloned().collect(), ..config.clone() }));
    keys.push(key(&place, &DataConfig { train: config.train[..1].to_vec(), ..config.clone() }));
    keys.push(key(&place, &DataConfig { validation: Vec::new(), ..config.clone() }));
    keys.push(key(&place, &DataConfig { validation: Vec::new(), validation_fraction: 0.01, ..config.clone() }));
    place.write("a.jsonl", "{\"text\":\"one\",\"body\":\"1\"}\n{\"text\":\"\",\"body\":\"\"}\n{\"text\":\"two\",\"body\":\"2\"}\n");
    keys.push(key(&place, &config));
    keys.push(key(&place, &DataConfig { text_field: "body".to_owned(), ..config.clone() }));
    let sources = open_sources(&config, &[]).unwrap();
    let with = |tokenizer: &dyn Tokenizer, safety: Digest| {
        prepare(&config, &sources, tokenizer, &place.scanner, safety, &place.cache_root(), &mut |_| {}).unwrap().key()
    };
    keys.push(with(&place.tokenizer, Digest::of_bytes(b"other policy")));
    let specials = ["<|endoftext|>".to_owned(), "<|pad|>".to_owned(), "<|more|>".to_owned()];
    keys.push(with(&ByteTokenizer::new(&specials).unwrap(), digest()));
    let n = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), n);
    place.write("a.jsonl", "{\"text\":\"one\"}\n{\"text\":\"\"}\n{\"text\":\"two\"}\n");
    assert_eq!(key(&place, &config), first);
}

#[test]
fn how_a_path_is_spelled_and_where_its_folder_is_decide_no_key() {
    let (place, config) = place();
    place.write("more/c.txt", "four");
    place.write("more/d.jsonl", "{\"text\":\"five\"}");
    let config = DataConfig { train: [config.train, vec![place.path("more").display().to_string()]].concat(), ..config };
    let key = |config: &DataConfig| place.prepare(config).unwrap().key();
    let first = key(&config);
    let respelled = |from: &str, to: &str| {
        let names = |names: &[String]| {
            names.iter().map(|name| place.path(&place.told(name)[2..].replace(from, to)).display().to_string()).collect()
        };
        DataConfig { train: names(&config.train), validation: names(&config.validation), ..config.clone() }
    };
    assert_eq!(key(&respelled("b.txt", "./b.txt")), first);
    assert_eq!(key(&respelled("more", "more/../more/.")), first);
    files::rename_new(&place.path("more"), &place.path("moved")).unwrap();
    files::rename_new(&place.path("b.txt"), &place.path("text.md")).unwrap();
    let moved = DataConfig { ..respelled("more", "moved") };
    let moved = DataConfig { train: moved.train.iter().map(|name| name.replace("b.txt", "text.md")).collect(), ..moved };
    assert_eq!(key(&moved), first);
    let listed = [&moved.train[..2], &[place.path("moved/c.txt").display().to_string(), place.path("moved/d.jsonl").display().to_string()]];
    assert_eq!(key(&DataConfig { train: listed.concat(), ..moved.clone() }), first, "a folder is the files in it");
    // The same bytes as one text are other documents than as rows.
    files::rename_new(&place.path("moved/d.jsonl"), &place.path("moved/d.md")).unwrap();
    assert_ne!(key(&moved), first);
    // A row that is too long is an error or, where bad rows are skipped, another set of tokens.
    assert_eq!(key(&DataConfig { max_row_bytes: 1000, ..moved.clone() }), key(&moved));
    let names: Vec<String> = place.prepare(&moved).unwrap().manifest().sources().iter().map(|source| place.told(&source.path)).collect();
    assert_eq!(names, ["D/a.jsonl", "D/text.md", "D/moved/c.txt", "D/moved/d.md", "D/v.txt"], "the manifest names the paths for people");
}

#[test]
fn a_cache_under_anothers_name_is_not_served() {
    let (place, config) = place();
    let other = DataConfig { train: config.train[1..].to_vec(), ..config.clone() };
    let whole = content(place.prepare(&config).unwrap().folder());
    let (mine, theirs) = (place.prepare(&config).unwrap(), place.prepare(&other).unwrap());
    files::remove_dir_all(mine.folder()).unwrap();
    files::rename_new(theirs.folder(), mine.folder()).unwrap();
    let again = place.prepare(&config).unwrap();
    assert_eq!((again.key(), content(again.folder())), (mine.key(), whole));
    let note = place.told(&again.notes()[0]);
    let expected = format!("expected key {}, found {}; the cache was discarded and built again", mine.key(), theirs.key());
    assert!(note.starts_with("token cache file `D/cache/") && note.ends_with(&expected), "{note}");
}

#[test]
fn a_flipped_byte_anywhere_is_noticed_and_the_cache_built_again() {
    let (place, config) = place();
    let cache = place.prepare(&config).unwrap();
    let whole = content(cache.folder());
    for (name, bytes) in &whole {
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        for damaged in [flipped, bytes[..bytes.len() - 1].to_vec(), [bytes.as_slice(), b"\n"].concat()] {
            place.write(&format!("cache/{}/{name}", cache.key()), damaged);
            let error = TokenCache::open(cache.folder()).unwrap_err();
            assert_eq!(error.exit_class(), ExitClass::Integrity, "{error}");
            assert!(error.to_string().contains(name.as_str()), "{error}");
            assert!(error.hint().is_some());
            let again = place.prepare(&config).unwrap();
            let note = place.told(&again.notes()[0]);
            assert!(
                note.starts_with("token cache file `D/cache/") && note.ends_with("; the cache was discarded and built again"),
                "{note}"
            );
            assert_eq!(content(again.folder()), whole);
        }
        files::remove_file(&cache.folder().join(name)).unwrap();
        assert!(TokenCache::open(cache.folder()).unwrap_err().to_string().ends_with("is damaged: it is missing"));
        assert_eq!(content(place.prepare(&config).unwrap().folder()), whole);
    }
    assert_eq!(files::list_dir(&place.cache_root()).unwrap().len(), 1, "nothing is left behind");
}

#[test]
fn a_manifest_that_was_changed_and_sealed_again_still_fails() {
    let (place, config) = place();
    let cache = place.prepare(&config).unwrap();
    let text = String::from_utf8(files::read(&cache.folder().join("manifest.json")).unwrap()).unwrap();
    let resealed = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let value: serde_json::Value = serde_json::from_str(&changed).unwrap();
        let seal = Digest::of_json(&value["manifest"]).unwrap().to_string();
        let sealed = changed.replacen(value["blake3"].as_str().unwrap(), &seal, 1);
        files::write_atomic(&cache.folder().join("manifest.json"), sealed.as_bytes()).unwrap();
        TokenCache::open(cache.folder()).unwrap_err().to_string()
    };
    assert!(resealed("token-cache/3", "token-cache/9").contains("expected schema `codex/token-cache/3`, found `codex/token-cache/9`"));
    assert!(resealed("\"text_field\": \"text\"", "\"text_field\": \"body\"").contains("expected key"));
    assert!(resealed("\"tokens\": 17", "\"tokens\": 16").contains("the tokens of train have 17 items in place of 16"));
    assert!(resealed("\"count\": 17", "\"count\": 16").contains("expected 32 bytes, found 34"));
    assert!(resealed("\"count\": 17", "\"count\": 18446744073709551615").contains("expected a size that fits, found 34"));
    assert!(resealed("\"count\": 17", "\"count\": 0").contains("its number of items does not fit"));
    assert!(
        resealed("\"path\": \"train-00000.tokens\"", "\"path\": \"../train-00000.tokens\"")
            .contains("the manifest calls it `../train-00000.tokens`")
    );
    let unknown = text.replacen("\"schema\"", "\"more\": 1,\n    \"schema\"", 1);
    files::write_atomic(&cache.folder().join("manifest.json"), unknown.as_bytes()).unwrap();
    assert!(TokenCache::open(cache.folder()).unwrap_err().to_string().contains("unknown field `more`"));
}

#[test]
fn a_killed_preparation_leaves_nothing_that_counts() {
    let (place, config) = place();
    let whole = content(place.prepare(&config).unwrap().folder());
    let key = place.prepare(&config).unwrap().key();
    files::remove_dir_all(&place.cache_root()).unwrap();
    // A draft whose process is gone, with every file but the manifest, as a kill before publishing leaves it.
    for (name, bytes) in &whole[1..] {
        place.write(&format!("cache/{key}.tmp-1-0/{name}"), &bytes[..bytes.len() / 2]);
    }
    place.write(&format!("cache/{key}.tmp-1-0.lock"), "");
    let cache = place.prepare(&config).unwrap();
    assert_eq!(content(cache.folder()), whole);
    assert_eq!(files::list_dir(&place.cache_root()).unwrap(), [cache.folder()]);
    assert_eq!(cache.notes().len(), 1, "a dead draft is no news: {:?}", cache.notes());
}

#[test]
fn two_preparations_at_once_end_with_one_cache() {
    let (place, config) = place();
    let barrier = std::sync::Barrier::new(4);
    let keys = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..5 {
                    let cache = place.prepare(&config).unwrap();
                    assert_eq!(cache.split(Split::Train).n_tokens(), 17);
                    keys.lock().unwrap().push(cache.key());
                }
            });
        }
    });
    let keys = keys.into_inner().unwrap();
    assert!(keys.len() == 20 && keys.iter().all(|key| *key == keys[0]));
    assert_eq!(files::list_dir(&place.cache_root()).unwrap().len(), 1);
}

#[test]
fn a_published_cache_is_used_by_the_process_that_lost_the_race() {
    // The other process publishes while this one reads its last document.
    let (place, config) = place();
    let sources = open_sources(&config, &[]).unwrap();
    let mut other = 0;
    let mut progress = |_: PrepareProgress| other += usize::from(place.prepare(&config).is_ok());
    let cache = prepare(&config, &sources, &place.tokenizer, &place.scanner, digest(), &place.cache_root(), &mut progress).unwrap();
    assert_eq!(other, 1);
    assert_eq!(cache.split(Split::Train).n_tokens(), 17);
    assert_eq!(files::list_dir(&place.cache_root()).unwrap().len(), 1);
}

#[test]
fn adding_documents_moves_none_to_another_split() {
    let place = Place::new();
    let row = |i: usize| format!("{{\"text\":\"document number {i}\"}}\n");
    let held_out = |place: &Place, rows: Vec<String>| -> Vec<Vec<u32>> {
        place.write("a.jsonl", rows.concat());
        let config = DataConfig { validation_fraction: 0.2, ..place.config(&["a.jsonl"]) };
        let cache = place.prepare(&config).unwrap();
        let split = cache.split(Split::Validation);
        let documents = (0..split.n_documents()).map(|idx| split.document(idx).unwrap().unwrap());
        documents.map(|document| split.tokens(document.start, (document.end - document.start) as usize).unwrap()).collect()
    };
    let before = held_out(&place, (0..100).map(row).collect());
    let after = held_out(&place, (0..300).rev().map(row).collect());
    assert!(before.len() > 5 && after.len() > before.len());
    assert!(before.iter().all(|document| after.contains(document)));
    let old_length = before[0].len().max("document number 99".len() + 1);
    let kept = after.iter().filter(|document| document.len() <= old_length);
    assert_eq!(kept.count(), before.len(), "no document of the first hundred came in");
}

#[test]
fn nothing_to_train_on_is_an_error_that_says_where_it_went() {
    let place = Place::new();
    place.write("a.jsonl", "{\"text\":\"\"}\nnope\n");
    let config = DataConfig { on_bad_row: OnBadRow::Skip, ..place.config(&["a.jsonl"]) };
    let error = place.prepare(&config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no training text: 1 documents read, 1 bad rows skipped, 1 empty, 0 dropped by the safety policy, 0 held out for validation"
    );
    assert_eq!(error.exit_class().code(), 3);
    place.write("a.jsonl", "");
    assert!(place.prepare(&config).unwrap_err().to_string().starts_with("no training text: 0 documents read"));
    assert!(files::list_dir(&place.cache_root()).unwrap().is_empty(), "a failed preparation leaves no draft");
}

#[test]
fn skipped_rows_are_in_the_manifest_and_the_notes() {
    let place = Place::new();
    let rows: String = (0..150).map(|i| if i == 75 { "{\"text\":\"good\"}\n" } else { "bad\n" }).collect();
    place.write("a.jsonl", rows);
    let config = DataConfig { on_bad_row: OnBadRow::Skip, ..place.config(&["a.jsonl"]) };
    let cache = place.prepare(&config).unwrap();
    let skipped = &cache.manifest().account.skipped;
    assert_eq!((skipped.rows, skipped.first.len()), (149, 100));
    let notes: Vec<String> = cache.notes().iter().map(|note| place.told(note)).collect();
    let first = "149 rows that cannot be used were skipped; the first: `D/a.jsonl:1:1`: not JSON: expected value";
    assert_eq!(notes, [first, "the validation split has no documents"]);
}

#[test]
fn progress_grows_to_its_total() {
    let place = Place::new();
    let row = "{\"text\":\"some words\"}\n";
    place.write("a.jsonl", row.repeat(10_000));
    place.write("b.txt", "x".repeat(3 << 20));
    let config = place.config(&["a.jsonl", "b.txt"]);
    let sources = open_sources(&config, &[]).unwrap();
    let mut seen: Vec<PrepareProgress> = Vec::new();
    prepare(&config, &sources, &place.tokenizer, &place.scanner, digest(), &place.cache_root(), &mut |progress| seen.push(progress))
        .unwrap();
    assert!(seen.len() >= 3, "{seen:?}");
    assert!(seen.is_sorted_by_key(|progress| (progress.documents, progress.bytes_done)));
    let total = (row.len() * 10_000 + (3 << 20)) as u64;
    let last = PrepareProgress { documents: 10_001, tokens: 110_000 + (3 << 20) + 1, bytes_done: total, bytes_total: total };
    assert_eq!(seen.last(), Some(&last));
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_of_its_path() {
    let (place, config) = place();
    place.write("cache", "a file where the folder should be");
    let error = place.prepare(&config).unwrap_err();
    assert_eq!(error.exit_class().code(), 5);
    assert!(place.told(&error).starts_with("cannot create folder `D/cache`"), "{error}");
    files::remove_file(&place.cache_root()).unwrap();
    let key = place.prepare(&config).unwrap().key();
    files::remove_dir_all(&place.cache_root()).unwrap();
    place.write(&format!("cache/{key}"), "a file where the cache should be");
    let error = place.prepare(&config).unwrap_err();
    assert!(place.told(&error).starts_with(&format!("cannot open `D/cache/{key}/manifest.json`")), "{error}");
}

#[test]
fn caches_and_loaders_can_cross_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<TokenCache>();
    crosses::<WindowLoader>();
    crosses::<MemorySource>();
    crosses::<DataError>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_bytes_make_the_manifest_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index) {
        let (place, config) = place();
        let cache = place.prepare(&config).unwrap();
        let path = cache.folder().join("manifest.json");
        let mut manifest = files::read(&path).unwrap();
        let start = at.index(manifest.len());
        let end = (start + bytes.len()).min(manifest.len());
        let whole = manifest.clone();
        manifest.splice(start..end, bytes);
        files::write_atomic(&path, &manifest).unwrap();
        prop_assert_eq!(TokenCache::open(cache.folder()).is_ok(), manifest == whole);
    }
}
