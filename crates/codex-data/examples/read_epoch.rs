//! Reads every window of a token cache in the order of training and says how fast: `read_epoch CACHE CONTEXT_LENGTH`. For `cargo xtask bench data`.
#![expect(clippy::print_stdout, reason = "a program for a benchmark, which reads its one line")]

use std::path::Path;

use codex_core::{Clock as _, SystemClock};
use codex_data::{HostBatch, Split, TokenCache, WindowLoader};

/// Windows of a batch.
const BATCH: usize = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, context_length] = arguments.as_slice() else { return Err("expected CACHE CONTEXT_LENGTH".into()) };
    let clock = SystemClock::new();
    // Proven first, so that what is measured is reading.
    let cache = TokenCache::open(Path::new(folder))?;
    let proven = clock.elapsed_seconds();
    let split = cache.split(Split::Train);
    let loader = WindowLoader::new(split, context_length.parse()?, 1, true, false)?;
    let (mut batch, mut position, mut tokens) = (HostBatch::default(), 0, 0_u64);
    while position < loader.windows_per_epoch() {
        let n = (loader.windows_per_epoch() - position).min(BATCH as u64);
        loader.refill(&mut batch, position, n as usize)?;
        tokens += batch.inputs.len() as u64;
        // What was read is used, or reading it could be left out.
        std::hint::black_box(&batch);
        position += n;
    }
    let seconds = clock.elapsed_seconds() - proven;
    let bytes = tokens * cache.manifest().bytes_per_token as u64;
    println!("{{\"tokens\": {tokens}, \"bytes\": {bytes}, \"seconds\": {seconds}, \"proof_seconds\": {proven}}}");
    Ok(())
}
