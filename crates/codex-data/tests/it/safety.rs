//! The safety policy is applied before a text is tokenized, and what it did is counted.

use codex_core::Failure;
use codex_data::{DataConfig, OnBadRow, Split, TokenCache, open_sources, train_texts};
use codex_safety::{Action, SafetyConfig, Scanner};
use codex_tokenize::Tokenizer;

use crate::{Place, content};

const CANARY: &str = "maria.keller@posteo.de";

fn place(personal_data: Action) -> (Place, DataConfig) {
    let mut place = Place::new();
    place.scanner = Scanner::new(&SafetyConfig { personal_data, ..SafetyConfig::default() }).unwrap();
    place.write("a.jsonl", format!("{{\"text\":\"plain prose\"}}\n{{\"text\":\"write to {CANARY} soon\"}}\n{{\"text\":\"the end\"}}\n"));
    let config = place.config(&["a.jsonl"]);
    (place, config)
}

fn text_of(place: &Place, cache: &TokenCache) -> String {
    place.tokenizer.decode(&cache.split(Split::Train).tokens(0, usize::MAX).unwrap()).unwrap()
}

#[test]
fn a_redacted_text_reaches_neither_the_tokenizer_nor_the_cache() {
    let (place, config) = place(Action::Redact);
    let cache = place.prepare(&config).unwrap();
    let text = text_of(&place, &cache);
    assert!(text.contains("write to [") && text.contains("plain prose") && !text.contains(CANARY), "{text}");
    assert_eq!(cache.manifest().num_records, 3);
    for (name, bytes) in content(cache.folder()) {
        assert!(!String::from_utf8_lossy(&bytes).contains(CANARY), "{name}");
    }
    let sources = open_sources(&config, &[]).unwrap();
    let mut texts = train_texts(&sources, &config, &place.scanner);
    assert!(texts.by_ref().all(|text| !text.unwrap().contains(CANARY)));
    assert_eq!(texts.documents().account().safety.redacted, 1);
    assert_eq!(cache.manifest().account.safety.redacted, 1);
}

#[test]
fn a_dropped_document_is_counted_and_noted() {
    let (place, config) = place(Action::Drop);
    let cache = place.prepare(&config).unwrap();
    assert_eq!(text_of(&place, &cache), "plain prose<|endoftext|>the end<|endoftext|>");
    assert_eq!((cache.manifest().account.dropped, cache.manifest().num_records), (1, 2));
    assert_eq!(cache.notes()[0], "1 documents were dropped by the safety policy");
    assert_eq!(cache.split(Split::Train).document(1).unwrap().unwrap().origin.line, Some(3));
}

#[test]
fn a_policy_that_stops_names_the_row_and_the_rule_but_not_the_match() {
    let (place, config) = place(Action::Stop);
    let error = place.prepare(&config).unwrap_err();
    let told = place.told(&error);
    assert!(told.starts_with("`D/a.jsonl:2` breaks the safety policy: "), "{told}");
    assert!(!told.contains(CANARY));
    assert_eq!(error.exit_class().code(), 6);
    assert!(error.hint().is_some());
}

#[test]
fn the_keys_of_a_skipped_row_are_redacted_and_cut_like_any_text() {
    let long = format!("{} {CANARY}", "long".repeat(8));
    let endless = "k".repeat(100_000);
    let rows = [
        format!("{{\"{CANARY}\":1}}"),
        format!("{{\"text\":\"a\",\"{CANARY}\":1,\"{CANARY}\":2}}"),
        // Cut before it is scanned, the address would be left without its end and not be known for one.
        format!("{{\"{long}\":1,\"{endless}\":2}}"),
    ];
    for action in [Action::Redact, Action::Drop, Action::Stop] {
        let (place, config) = place(action);
        place.write("a.jsonl", format!("{{\"text\":\"plain prose\"}}\n{}\n", rows.join("\n")));
        let skipping = DataConfig { on_bad_row: OnBadRow::Skip, ..config.clone() };
        let cache = place.prepare(&skipping).unwrap();
        let manifest = String::from_utf8(content(cache.folder())[0].1.clone()).unwrap();
        assert!(!manifest.contains("maria") && !manifest.contains("posteo"), "{manifest}");
        assert!(manifest.len() < 20_000, "{} bytes", manifest.len());
        let first = &cache.manifest().account.skipped.first;
        assert_eq!(first.len(), 3);
        let word = if action == Action::Redact { "`[EMAIL]`" } else { "`[WITHHELD]`" };
        assert!(first[0].ends_with(&format!("no field `text`; the row has {word}")), "{}", first[0]);
        assert!(first[1].ends_with(&format!("key {word} occurs twice in one object")), "{}", first[1]);
        // The same row as an error, which a terminal and the run's events see.
        for row in &rows {
            place.write("a.jsonl", row);
            let error = place.prepare(&config).unwrap_err();
            let told = format!("{error} {error:?} {:?}", error.hint());
            assert!(!told.contains("maria") && !told.contains("posteo") && told.len() < 2000, "{told}");
        }
    }
}
