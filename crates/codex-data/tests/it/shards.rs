//! Caches of many files: what is read across their borders, and what is found out late.

use codex_core::{ExitClass, Failure, files};
use codex_data::{Cutting, DataConfig, DataError, Packing, RowKind, Split, TokenCache, WindowLoader};
use proptest::prelude::*;

use crate::Place;

/// Rows of texts of different lengths, and prompts, so that there are masks too.
fn place(with_prompts: bool) -> (Place, DataConfig) {
    let place = Place::new();
    let rows = (0..40_usize).map(|i| {
        let text: String = ('a'..='z').cycle().skip(i).take(i * 5 % 17 + 1).collect();
        if with_prompts && i % 3 == 0 {
            format!("{{\"prompt\":\"{text}\",\"completion\":\"x{i}\"}}\n")
        } else {
            format!("{{\"text\":\"{text}\"}}\n")
        }
    });
    place.write("a.jsonl", rows.collect::<Vec<_>>().concat());
    let rows = if with_prompts { RowKind::Prompt } else { RowKind::Text };
    let text = DataConfig { rows, ..place.config(&["a.jsonl"]) };
    if with_prompts {
        let only: Vec<String> =
            (0..40_usize).map(|i| format!("{{\"prompt\":\"p{i}\",\"completion\":\"{}\"}}\n", "c".repeat(i % 11 + 1))).collect();
        place.write("a.jsonl", only.concat());
    }
    (place, text)
}

fn in_shards(place: &Place, config: &DataConfig, shard_tokens: u64) -> TokenCache {
    let root = place.path(&format!("cache-{shard_tokens}"));
    place.prepare_in(&DataConfig { shard_tokens, ..config.clone() }, &root).unwrap()
}

#[test]
fn the_size_of_files_decides_nothing() {
    for with_prompts in [false, true] {
        let (place, config) = place(with_prompts);
        let whole = place.prepare(&config).unwrap();
        let of = |cache: &TokenCache| {
            let split = cache.split(Split::Train);
            let n = split.n_tokens() as usize;
            let documents: Vec<_> = (0..split.n_documents()).map(|idx| split.document(idx).unwrap().unwrap()).collect();
            let places: Vec<u64> = (0..=n as u64).map(|position| split.document_at(position).unwrap()).collect();
            let batches: Vec<_> = [Packing::Stream, Packing::Whole, Packing::BestFit, Packing::Rows]
                .into_iter()
                .map(|packing| {
                    let loader = WindowLoader::packed(split, 7, 3, Cutting { shuffle: true, packing, ..Cutting::default() }).unwrap();
                    (loader.batch(0, loader.windows_per_epoch() as usize).unwrap(), loader.report().unwrap())
                })
                .collect();
            (split.tokens(0, n).unwrap(), split.trained(0, n).unwrap(), split.counts(0).unwrap(), documents, places, batches)
        };
        let expected = of(&whole);
        assert_eq!(whole.manifest().splits.train.shards.len(), 1);
        for shard_tokens in [1, 2, 7, 33, 64, 200] {
            let cache = in_shards(&place, &config, shard_tokens);
            let split = &cache.manifest().splits.train;
            assert_eq!(split.shards.len() as u64, split.tokens.div_ceil(shard_tokens));
            assert_eq!(split.document_shards.len() as u64, split.documents.div_ceil((shard_tokens / 32).max(1)));
            assert_eq!(cache.key(), whole.key(), "the key is of tokens, not of files");
            assert!(of(&cache) == expected, "{shard_tokens}");
        }
    }
}

#[test]
fn ids_are_counted_when_they_are_written() {
    for with_prompts in [false, true] {
        let (place, config) = place(with_prompts);
        let cache = in_shards(&place, &config, 9);
        let split = cache.split(Split::Train);
        let n = split.n_tokens() as usize;
        let trained = split.trained(0, n).unwrap().unwrap_or_else(|| vec![1; n]);
        let mut expected = vec![0_u64; 258];
        for (id, trained) in split.tokens(0, n).unwrap().into_iter().zip(trained) {
            expected[id as usize] += u64::from(trained);
        }
        assert_eq!(split.counts(258).unwrap(), expected);
        assert_eq!(split.counts(300).unwrap()[258..], [0; 42]);
        assert_eq!(cache.split(Split::Validation).counts(5).unwrap(), [0; 5]);
    }
}

#[test]
fn every_file_of_a_cache_is_proven_when_it_is_opened() {
    let (place, config) = place(true);
    let cache = in_shards(&place, &config, 33);
    let names: Vec<_> = files::list_dir(cache.folder()).unwrap();
    assert!(names.len() > 15);
    for path in names {
        let bytes = files::read(&path).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 4;
        files::write_atomic(&path, &flipped).unwrap();
        let error = TokenCache::open(cache.folder()).unwrap_err();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.exit_class() == ExitClass::Integrity && error.to_string().contains(name), "{name}: {error}");
        let marked = cache.folder().join("damaged");
        if marked.exists() {
            files::remove_file(&marked).unwrap();
        }
        files::write_atomic(&path, &bytes).unwrap();
    }
    assert!(TokenCache::open(cache.folder()).is_ok());
}

#[test]
fn any_stretch_is_that_of_the_whole() {
    let (place, config) = place(false);
    let all = place.prepare(&config).unwrap().split(Split::Train).tokens(0, usize::MAX).unwrap();
    for shard_tokens in [1, 13, 50] {
        let cache = in_shards(&place, &config, shard_tokens);
        let split = cache.split(Split::Train);
        proptest!(|(start in 0_u64..400, len in 0_usize..400)| {
            let expected: Vec<u32> = all.iter().copied().skip(start as usize).take(len).collect();
            prop_assert_eq!(split.tokens(start, len).unwrap(), expected);
        });
    }
}

#[test]
fn a_large_cache_is_proven_shard_by_shard_while_it_is_read() {
    let (place, config) = place(true);
    let cache = in_shards(&place, &config, 33);
    let folder = cache.folder().to_owned();
    let open = || TokenCache::open_without_reading(&folder);
    let n = cache.split(Split::Train).n_tokens();
    for kind in ["tokens", "mask", "documents"] {
        let path = folder.join(format!("train-00002.{kind}"));
        let bytes = files::read(&path).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 4;
        files::write_atomic(&path, &flipped).unwrap();
        let damaged = open().unwrap();
        let split = damaged.split(Split::Train);
        assert!(split.tokens(0, 66).is_ok(), "the shards before it are whole");
        let used = match kind {
            "tokens" => split.tokens(60, 10).map(drop),
            "mask" => split.trained(60, 10).map(drop),
            _ => (0..n).try_for_each(|position| split.document_at(position).map(drop)),
        };
        let error = used.unwrap_err();
        assert!(matches!(&error, DataError::CorruptCache { path: at, .. } if *at == path), "{error}");
        assert!(error.hint().is_some());
        // A batch that needs it is no batch, and the next start does not begin with it.
        let loader = WindowLoader::new(cache.split(Split::Train), 7, 3, false, true).unwrap();
        assert!(loader.batch(0, 1).is_ok(), "what was opened and proven before is still mapped");
        assert!(open().unwrap_err().to_string().contains("damage was found while it was in use"));
        let again = place.prepare_in(&DataConfig { shard_tokens: 33, ..config.clone() }, files::parent(&folder)).unwrap();
        assert!(again.notes()[0].contains("discarded and built again"), "{:?}", again.notes());
        assert_eq!(files::read(&path).unwrap(), bytes);
    }
    files::truncate(&folder.join("train-00001.tokens"), 10).unwrap();
    assert!(open().unwrap_err().to_string().contains("expected 66 bytes, found 10"), "sizes are looked at in any case");
}

/// Bytes of these files that this process has in memory, as the system says.
#[cfg(target_os = "linux")]
fn resident(folder: &std::path::Path) -> u64 {
    let smaps = files::read_to_string(std::path::Path::new("/proc/self/smaps")).unwrap();
    let (mut is_ours, mut kilobytes) = (false, 0);
    for line in smaps.lines() {
        if let Some(rest) = line.strip_prefix("Rss:") {
            kilobytes += if is_ours { rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap() } else { 0 };
        } else if line.split_whitespace().next().is_some_and(|first| first.contains('-')) {
            is_ours = line.contains(folder.to_str().unwrap());
        }
    }
    kilobytes << 10
}

#[cfg(target_os = "linux")]
#[test]
fn a_large_cache_does_not_stay_in_memory_because_it_was_read() {
    let place = Place::new();
    place.write("a.txt", "0123456789abcdef".repeat(1 << 19));
    let config = DataConfig { shard_tokens: 1 << 20, ..place.config(&["a.txt"]) };
    let made = place.prepare(&config).unwrap();
    let folder = made.folder().to_owned();
    drop(made);
    let cache = TokenCache::open_without_reading(&folder).unwrap();
    let split = cache.split(Split::Train);
    let n = split.n_tokens();
    assert!(n > 1 << 23);
    let all = n * cache.manifest().bytes_per_token as u64;
    // Each stretch once, some more often than pages stay.
    for i in 0..4096 {
        split.tokens(i * 7919 * 64 % n, 64).unwrap();
    }
    let left = resident(&folder);
    assert!(left < all / 4, "{left} of {all} bytes are in memory");
    assert_eq!(split.tokens(0, 3).unwrap(), [b'0', b'1', b'2'].map(|byte| u32::from(byte) + 2));
}
