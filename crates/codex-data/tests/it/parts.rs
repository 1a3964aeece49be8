//! One collection in several parts, as several machines read it.

use codex_core::Digest;
use codex_data::{DataConfig, Split, documents_digest, open_sources};
use codex_tokenize::Tokenizer as _;

use crate::Place;

#[test]
fn the_parts_of_a_collection_are_the_whole_and_each_document_stays_in_its_own() {
    let place = Place::new();
    let rows = |n: usize| (0..n).map(|i| format!("{{\"text\":\"document number {i}\"}}\n")).collect::<Vec<_>>().concat();
    place.write("a.jsonl", rows(300));
    let config = DataConfig { validation_fraction: 0.1, ..place.config(&["a.jsonl"]) };
    let documents = |config: &DataConfig, split: Split| -> Vec<String> {
        let cache = place.prepare(config).unwrap();
        let split = cache.split(split);
        let records = (0..split.n_documents()).map(|idx| split.document(idx).unwrap().unwrap());
        records
            .map(|record| place.tokenizer.decode(&split.tokens(record.start, (record.end - record.start) as usize).unwrap()).unwrap())
            .collect()
    };
    let part = |index: usize| DataConfig { shard: format!("{index}/3"), ..config.clone() };
    let whole = documents(&config, Split::Train);
    let parts: Vec<Vec<String>> = (0..3).map(|index| documents(&part(index), Split::Train)).collect();
    for (index, of_part) in parts.iter().enumerate() {
        assert!((60..120).contains(&of_part.len()), "{}", of_part.len());
        let in_order: Vec<&String> = whole.iter().filter(|text| of_part.contains(text)).collect();
        assert_eq!(in_order, of_part.iter().collect::<Vec<_>>());
        assert_eq!(documents(&part(index), Split::Validation), documents(&config, Split::Validation), "all parts are validated alike");
        let account = place.prepare(&part(index)).unwrap().manifest().account.clone();
        assert_eq!(account.of_other_shards as usize, whole.len() - of_part.len());
    }
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), whole.len());
    // One tokenizer serves all parts, and a key says which part it is of.
    let sources = open_sources(&config, &[]).unwrap();
    let of = |config: &DataConfig| documents_digest(config, &sources, Digest::of_bytes(b"safety")).unwrap();
    assert_eq!(of(&part(1)), of(&config));
    let keys = [&config, &part(0), &part(1)].map(|config| place.prepare(config).unwrap().key());
    assert!(keys[0] != keys[1] && keys[1] != keys[2]);
    place.write("a.jsonl", rows(600));
    let more: Vec<Vec<String>> = (0..3).map(|index| documents(&part(index), Split::Train)).collect();
    assert!(parts.iter().zip(&more).all(|(before, after)| before.iter().all(|text| after.contains(text))));
    for wrong in ["3/3", "1", "a/b", "0/0", "-1/2", "0/65537"] {
        let problems = DataConfig { shard: wrong.to_owned(), ..config.clone() }.problems();
        assert_eq!(problems.len(), 1, "{wrong}");
    }
}
