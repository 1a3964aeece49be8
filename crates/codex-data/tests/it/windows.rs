//! Windows, targets, weights, segments and the order of batches, against literal values.

use std::collections::BTreeMap;

use codex_core::Failure;
use codex_data::{Cursor, DocumentRange, HostBatch, MemorySource, Split, TokenCache, WindowLoader};
use proptest::prelude::*;

use crate::Place;

/// Ids of the byte tokenizer: two more than the byte; 0 ends a text and 1 pads.
const END: u32 = 0;
const PAD: u32 = 1;
fn id(letter: char) -> u32 {
    letter as u32 + 2
}

/// A cache of `builtin:t` with these documents.
fn cache_of(texts: &[&str]) -> (Place, TokenCache) {
    let mut place = Place::new();
    place.builtins = vec![MemorySource::from_documents("t", texts.iter().map(|text| (*text).to_owned()))];
    let cache = place.prepare(&place.config(&["builtin:t"])).unwrap();
    (place, cache)
}

fn loader(cache: &TokenCache, context_length: usize, shuffle: bool, isolate: bool) -> WindowLoader {
    WindowLoader::new(cache.split(Split::Train), context_length, 7, shuffle, isolate)
}

#[test]
fn windows_overlap_by_one_token_and_the_last_is_padded() {
    let (_place, cache) = cache_of(&["abc", "de", "f"]);
    // a b c END d e END f END
    let train = cache.split(Split::Train);
    assert_eq!((train.n_tokens(), train.n_documents(), train.text_bytes()), (9, 3, 6));
    let loader = loader(&cache, 3, false, false);
    assert_eq!(loader.windows_per_epoch(), 3);
    let batch = loader.batch(0, 3).unwrap();
    let [a, b, c, d, e, f] = ['a', 'b', 'c', 'd', 'e', 'f'].map(id);
    let expected = HostBatch {
        n_rows: 3,
        context_length: 3,
        inputs: vec![a, b, c, END, d, e, END, f, PAD],
        targets: vec![b, c, END, d, e, END, f, END, PAD],
        weights: vec![1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        segments: vec![0; 9],
        documents: vec![
            DocumentRange { source: 0, first: 0, end: 1 },
            DocumentRange { source: 0, first: 0, end: 2 },
            DocumentRange { source: 0, first: 1, end: 3 },
        ],
    };
    assert_eq!(batch, expected);
    assert_eq!(batch.n_targets(), 8);
}

#[test]
fn isolated_documents_have_segments_and_no_target_across_a_boundary() {
    let (_place, cache) = cache_of(&["abc", "de", "f"]);
    let batch = loader(&cache, 5, false, true).batch(0, 2).unwrap();
    let [a, b, c, d, e, f] = ['a', 'b', 'c', 'd', 'e', 'f'].map(id);
    assert_eq!(batch.inputs, [a, b, c, END, d, e, END, f, PAD, PAD]);
    assert_eq!(batch.targets, [b, c, END, d, e, END, f, END, PAD, PAD]);
    assert_eq!(batch.weights, [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(batch.segments, [0, 0, 0, 0, 1, 0, 0, 1, 1, 1]);
    assert_eq!(batch.documents, [DocumentRange { source: 0, first: 0, end: 2 }, DocumentRange { source: 0, first: 1, end: 3 }]);
}

#[test]
fn a_split_that_just_fills_its_windows_has_no_padding() {
    let (_place, cache) = cache_of(&["abcdef"]);
    let loader = loader(&cache, 3, false, false);
    assert_eq!(loader.windows_per_epoch(), 2);
    assert_eq!(loader.batch(0, 2).unwrap().n_targets(), 6);
}

#[test]
fn a_batch_names_its_documents() {
    let place = Place::new();
    place.write("a.jsonl", "{\"text\":\"ab\"}\n\n{\"text\":\"cd\"}\n");
    place.write("b.txt", "efgh");
    let cache = place.prepare(&place.config(&["a.jsonl", "b.txt"])).unwrap();
    let loader = loader(&cache, 4, false, false);
    let names = |row: usize| -> Vec<String> {
        let documents = loader.batch(0, 3).unwrap().documents[row];
        loader.origins(documents).iter().map(|origin| place.told(origin)).collect()
    };
    assert_eq!(names(0), ["D/a.jsonl:1", "D/a.jsonl:3"]);
    assert_eq!(names(1), ["D/a.jsonl:3", "D/b.txt"]);
    let second = cache.split(Split::Train).document(1).unwrap();
    assert_eq!((second.start, second.end, second.text_bytes), (3, 6, 2));
    assert_eq!(cache.split(Split::Train).document(3), None);
    assert_eq!([0, 2, 3, 6, 10, 11].map(|position| cache.split(Split::Train).document_at(position)), [0, 0, 1, 2, 2, 3]);
}

#[test]
fn each_epoch_serves_every_window_once_in_its_own_order() {
    let text: String = ('a'..='z').cycle().take(199).collect();
    let (_place, cache) = cache_of(&[&text]);
    let loader = loader(&cache, 4, true, false);
    let windows = loader.windows_per_epoch();
    assert_eq!(windows, 50);
    let in_order = WindowLoader::new(cache.split(Split::Train), 4, 7, false, false);
    let rows = |loader: &WindowLoader, epoch: u64| -> Vec<Vec<u32>> {
        loader.batch(epoch * windows, 50).unwrap().inputs.chunks(4).map(<[u32]>::to_vec).collect()
    };
    let (first, second) = (rows(&loader, 0), rows(&loader, 1));
    assert_ne!(first, second);
    assert_ne!(first, rows(&in_order, 0));
    let sorted = |mut rows: Vec<Vec<u32>>| {
        rows.sort();
        rows
    };
    assert_eq!(sorted(first.clone()), sorted(rows(&in_order, 0)));
    assert_eq!(sorted(second), sorted(rows(&in_order, 1)));
    let other_seed = WindowLoader::new(cache.split(Split::Train), 4, 8, true, false);
    assert_ne!(first, rows(&other_seed, 0));
    assert_eq!(first, rows(&WindowLoader::new(cache.split(Split::Train), 4, 7, true, false), 0));
}

#[test]
fn a_resumed_run_sees_the_batches_of_a_straight_one() {
    let text: String = ('a'..='z').cycle().take(130).collect();
    let (_place, cache) = cache_of(&[&text, "another one", "and a third"]);
    for (shuffle, isolate) in [(false, false), (true, false), (true, true)] {
        let straight: Vec<HostBatch> = {
            let loader = loader(&cache, 7, shuffle, isolate);
            let mut cursor = Cursor::default();
            let mut batches = Vec::new();
            while cursor.epoch(loader.windows_per_epoch()) < 3 {
                batches.push(loader.batch(cursor.position, 4).unwrap());
                cursor.advance(4);
            }
            batches
        };
        for (step, expected) in straight.iter().enumerate() {
            let saved = serde_json::to_string(&Cursor { position: 4 * step as u64 }).unwrap();
            let cursor: Cursor = serde_json::from_str(&saved).unwrap();
            assert_eq!(cursor.step(4), step as u64);
            assert_eq!(&loader(&cache, 7, shuffle, isolate).batch(cursor.position, 4).unwrap(), expected);
        }
    }
}

#[test]
fn a_split_without_a_window_says_so() {
    let (_place, cache) = cache_of(&["a"]);
    assert_eq!(loader(&cache, 8, true, false).batch(0, 1).unwrap().n_targets(), 1);
    let nothing = WindowLoader::new(cache.split(Split::Validation), 8, 1, true, false);
    assert_eq!(nothing.windows_per_epoch(), 0);
    let error = nothing.batch(0, 1).unwrap_err();
    assert_eq!(error.to_string(), "the validation split has 0 tokens, which make no window of 8 inputs; at least 2 are needed");
    assert_eq!(error.exit_class().code(), 3);
    assert!(WindowLoader::new(cache.split(Split::Train), 0, 1, true, false).batch(0, 1).is_err());
    assert_eq!(Cursor { position: 5 }.epoch(0), 0);
}

#[test]
fn counts_are_those_of_the_tokens() {
    let (_place, cache) = cache_of(&["aab", "a"]);
    let counts = cache.split(Split::Train).counts(258);
    let seen: BTreeMap<usize, u64> = counts.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect();
    assert_eq!(seen, BTreeMap::from([(END as usize, 2), (id('a') as usize, 3), (id('b') as usize, 1)]));
    assert_eq!(counts.len(), 258);
    assert_eq!(cache.split(Split::Train).counts(0).iter().sum::<u64>(), 6);
    assert_eq!(cache.split(Split::Train).tokens(4, 100), [id('a'), END]);
    assert_eq!(cache.split(Split::Train).tokens(100, 1), Vec::<u32>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_token_but_the_first_is_a_target_once_per_epoch(lengths in proptest::collection::vec(1_usize..9, 1..12), context_length in 1_usize..12, seed: u64) {
        let texts: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
        let (_place, cache) = cache_of(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let train = cache.split(Split::Train);
        let plain = WindowLoader::new(train, context_length, seed, true, false);
        let isolated = WindowLoader::new(train, context_length, seed, true, true);
        let n = plain.windows_per_epoch() as usize;
        prop_assert_eq!(plain.batch(0, n).unwrap().n_targets(), train.n_tokens() - 1);
        prop_assert_eq!(isolated.batch(0, n).unwrap().n_targets(), train.n_tokens() - train.n_documents());
        let in_order = WindowLoader::new(train, context_length, seed, false, true).batch(0, n).unwrap();
        prop_assert_eq!(in_order.segments.len(), n * context_length);
        prop_assert_eq!(&in_order.targets[..train.n_tokens() as usize - 1], &train.tokens(1, usize::MAX)[..]);
    }
}
