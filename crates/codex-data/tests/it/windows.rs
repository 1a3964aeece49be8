//! Windows, targets, weights, segments and the order of batches, against literal values.

use std::collections::BTreeMap;

use codex_core::Failure;
use codex_data::{Cursor, Cutting, DocumentRange, HostBatch, MemorySource, Packing, PackingReport, Split, TokenCache, WindowLoader};
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
    WindowLoader::new(cache.split(Split::Train), context_length, 7, shuffle, isolate).unwrap()
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
        loader.origins(documents).unwrap().iter().map(|origin| place.told(origin)).collect()
    };
    assert_eq!(names(0), ["D/a.jsonl:1", "D/a.jsonl:3"]);
    assert_eq!(names(1), ["D/a.jsonl:3", "D/b.txt"]);
    let second = cache.split(Split::Train).document(1).unwrap().unwrap();
    assert_eq!((second.start, second.end, second.text_bytes), (3, 6, 2));
    assert_eq!(cache.split(Split::Train).document(3).unwrap(), None);
    assert_eq!([0, 2, 3, 6, 10, 11].map(|position| cache.split(Split::Train).document_at(position).unwrap()), [0, 0, 1, 2, 2, 3]);
}

#[test]
fn each_epoch_serves_every_window_once_in_its_own_order() {
    let text: String = ('a'..='z').cycle().take(199).collect();
    let (_place, cache) = cache_of(&[&text]);
    let loader = loader(&cache, 4, true, false);
    let windows = loader.windows_per_epoch();
    assert_eq!(windows, 50);
    let in_order = WindowLoader::new(cache.split(Split::Train), 4, 7, false, false).unwrap();
    let rows = |loader: &WindowLoader, epoch: u64| -> Vec<Vec<u32>> {
        loader.batch(epoch * windows, 50).unwrap().inputs.chunks(4).map(<[u32]>::to_vec).collect()
    };
    let (first, second) = (rows(&loader, 0), rows(&loader, 1));
    assert_ne!(first, second);
    assert_ne!(first, rows(&in_order, 0));
    let mut again = loader.batch(3, 7).unwrap();
    loader.refill(&mut again, windows, 50).unwrap();
    assert_eq!(again, loader.batch(windows, 50).unwrap(), "what was there is gone");
    let sorted = |mut rows: Vec<Vec<u32>>| {
        rows.sort();
        rows
    };
    assert_eq!(sorted(first.clone()), sorted(rows(&in_order, 0)));
    assert_eq!(sorted(second), sorted(rows(&in_order, 1)));
    let other_seed = WindowLoader::new(cache.split(Split::Train), 4, 8, true, false).unwrap();
    assert_ne!(first, rows(&other_seed, 0));
    assert_eq!(first, rows(&WindowLoader::new(cache.split(Split::Train), 4, 7, true, false).unwrap(), 0));
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
    let nothing = WindowLoader::new(cache.split(Split::Validation), 8, 1, true, false).unwrap();
    assert_eq!(nothing.windows_per_epoch(), 0);
    let error = nothing.batch(0, 1).unwrap_err();
    assert_eq!(error.to_string(), "the validation split has 0 tokens, which make no window of 8 inputs; at least 2 are needed");
    assert_eq!(error.exit_class().code(), 3);
    assert!(WindowLoader::new(cache.split(Split::Train), 0, 1, true, false).unwrap().batch(0, 1).is_err());
    assert_eq!(Cursor { position: 5 }.epoch(0), 0);
}

#[test]
fn counts_are_those_of_the_tokens() {
    let (_place, cache) = cache_of(&["aab", "a"]);
    let counts = cache.split(Split::Train).counts(258).unwrap();
    let seen: BTreeMap<usize, u64> = counts.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect();
    assert_eq!(seen, BTreeMap::from([(END as usize, 2), (id('a') as usize, 3), (id('b') as usize, 1)]));
    assert_eq!(counts.len(), 258);
    assert_eq!(cache.split(Split::Train).counts(0).unwrap().iter().sum::<u64>(), 6);
    assert_eq!(cache.split(Split::Train).tokens(4, 100).unwrap(), [id('a'), END]);
    assert_eq!(cache.split(Split::Train).tokens(100, 1).unwrap(), Vec::<u32>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_token_but_the_first_is_a_target_once_per_epoch(lengths in proptest::collection::vec(1_usize..9, 1..12), context_length in 1_usize..12, seed: u64) {
        let texts: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
        let (_place, cache) = cache_of(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let train = cache.split(Split::Train);
        let plain = WindowLoader::new(train, context_length, seed, true, false).unwrap();
        let isolated = WindowLoader::new(train, context_length, seed, true, true).unwrap();
        let n = plain.windows_per_epoch() as usize;
        prop_assert_eq!(plain.batch(0, n).unwrap().n_targets(), train.n_tokens() - 1);
        prop_assert_eq!(isolated.batch(0, n).unwrap().n_targets(), train.n_tokens() - train.n_documents());
        let in_order = WindowLoader::new(train, context_length, seed, false, true).unwrap().batch(0, n).unwrap();
        prop_assert_eq!(in_order.segments.len(), n * context_length);
        prop_assert_eq!(&in_order.targets[..train.n_tokens() as usize - 1], &train.tokens(1, usize::MAX).unwrap()[..]);
    }
}

fn packed(cache: &TokenCache, context_length: usize, packing: Packing) -> WindowLoader {
    WindowLoader::packed(cache.split(Split::Train), context_length, 7, Cutting { packing, ..Cutting::default() }).unwrap()
}

#[test]
fn the_best_fit_shares_windows_between_documents_that_do_not_see_each_other() {
    // abcdE | fE | ghE | ijklmnopE with windows of 5 inputs: ij to n, rest of it with ghE, abcdE with fE.
    let (place, cache) = cache_of(&["abcd", "f", "gh", "ijklmnop"]);
    let loader = packed(&cache, 5, Packing::BestFit);
    assert!(loader.isolates());
    assert_eq!(loader.windows_per_epoch(), 3);
    let batch = loader.batch(0, 3).unwrap();
    let [a, b, c, d, f, g, h] = ['a', 'b', 'c', 'd', 'f', 'g', 'h'].map(id);
    let [i, j, k, l, m, n, o, p] = ['i', 'j', 'k', 'l', 'm', 'n', 'o', 'p'].map(id);
    assert_eq!(batch.inputs, [a, b, c, d, f, g, h, n, o, p, i, j, k, l, m]);
    assert_eq!(batch.targets, [b, c, d, END, END, h, END, o, p, END, j, k, l, m, n]);
    assert_eq!(batch.weights, [1.0; 15]);
    assert_eq!(batch.segments, [0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]);
    let names =
        |at: usize| -> Vec<String> { loader.origins(batch.documents[at]).unwrap().iter().map(|origin| place.told(origin)).collect() };
    let all: Vec<String> = (0..batch.documents.len()).flat_map(names).collect();
    assert_eq!(all, ["builtin:t:1", "builtin:t:2", "builtin:t:3", "builtin:t:4", "builtin:t:4"]);
    let expected = PackingReport { windows: 3, inputs: 15, padding: 0, documents: 4, cut_documents: 1, cut_inputs: 3 };
    assert_eq!(loader.report().unwrap(), expected);
}

#[test]
fn what_windows_are_worth_is_counted() {
    let (_place, cache) = cache_of(&["abcd", "f", "gh", "ijklmnop"]);
    let report = |packing| packed(&cache, 5, packing).report().unwrap();
    let of = |windows, padding, cut_documents, cut_inputs| PackingReport {
        windows,
        inputs: 5 * windows,
        padding,
        documents: 4,
        cut_documents,
        cut_inputs,
    };
    // abcdE fEghE ijklm nopE: the last token is no input, so nop is what lies behind its window.
    assert_eq!(report(Packing::Stream), of(4, 2, 1, 3));
    assert_eq!(report(Packing::Auto), report(Packing::Stream));
    // Whole documents: abcdE; fE ghE; ijklmn; nopE.
    assert_eq!(report(Packing::Whole), of(4, 20 - 4 - 4 - 5 - 3, 1, 3));
    assert_eq!(report(Packing::Rows), of(5, 25 - 4 - 1 - 2 - 5 - 3, 1, 3));
    let sum = {
        let mut sum = report(Packing::Rows);
        sum.merge(&report(Packing::BestFit));
        sum
    };
    assert_eq!((sum.windows, sum.inputs, sum.documents, sum.cut_inputs), (8, 40, 8, 6));
    assert!((sum.padding_share() - 0.25).abs() < 1e-12 && (sum.cut_share() - 0.15).abs() < 1e-12);
    assert_eq!(packed(&cache, 0, Packing::Rows).report().unwrap(), PackingReport { documents: 4, ..PackingReport::default() });
}

#[test]
fn every_packing_trains_each_target_within_a_document_once() {
    let texts: Vec<String> =
        (0..60_usize).map(|i| "abcdefghijklmnopqrstuvwxyz".chars().cycle().skip(i).take(i * 7 % 41 + 1).collect()).collect();
    let (_place, cache) = cache_of(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let sorted_pairs = |packing| {
        let loader = packed(&cache, 12, packing);
        let batch = loader.batch(0, loader.windows_per_epoch() as usize).unwrap();
        let counted = batch.weights.iter().zip(batch.inputs.iter().zip(&batch.targets)).filter(|(weight, _)| **weight > 0.0);
        let mut pairs: Vec<(u32, u32)> = counted.map(|(_, (input, target))| (*input, *target)).collect();
        pairs.sort_unstable();
        pairs
    };
    let whole = sorted_pairs(Packing::Whole);
    assert_eq!(whole.len(), texts.iter().map(String::len).sum::<usize>());
    assert_eq!(sorted_pairs(Packing::Rows), whole);
    assert_eq!(sorted_pairs(Packing::BestFit), whole);
    let padding = |packing| packed(&cache, 12, packing).report().unwrap().padding_share();
    assert!(padding(Packing::BestFit) < padding(Packing::Whole) && padding(Packing::Whole) < padding(Packing::Rows));
    let cut = |packing| packed(&cache, 12, packing).report().unwrap().cut_share();
    assert!(cut(Packing::BestFit) < cut(Packing::Stream));
}
