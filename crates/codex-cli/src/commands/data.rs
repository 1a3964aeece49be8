//! `data`: its commands, and `data inspect`: what is in files and folders before anything is trained on them.

use codex_data::{DataConfig, OnBadRow, open_sources, train_texts};
use codex_safety::{SafetyConfig, Scanner};
use serde_json::json;

use crate::arguments::Data;
use crate::commands::{data_cache, data_masks};
use crate::corpus;
use crate::failure::CliError;
use crate::terminal::{Terminal, bytes, table};

/// Bars of the length histogram, each twice as long as the one before: 1 byte to 1 GiB.
const BUCKETS: usize = 31;

pub(super) fn run(arguments: &Data, terminal: &Terminal) -> Result<(), CliError> {
    let (paths, text_field, masks) = match arguments {
        Data::Inspect { paths, text_field, masks } => (paths, text_field, masks),
        Data::Prepare { configuration } => return data_cache::prepare(configuration, terminal),
        Data::Verify { cache } => return data_cache::verify(cache, terminal),
        Data::Gc { runs, cache, dry_run } => return data_cache::gc(runs, cache.as_deref(), *dry_run, terminal),
    };
    if masks.masks {
        return data_masks::run(paths, text_field, masks, terminal);
    }
    let config = DataConfig { train: paths.clone(), text_field: text_field.clone(), on_bad_row: OnBadRow::Skip, ..DataConfig::default() };
    let sources = open_sources(&config, &corpus::builtins()?)?;
    let checksums = sources.checksums()?;
    let scanner = Scanner::new(&SafetyConfig::default())?;
    let mut texts = train_texts(&sources, &config, &scanner);
    let (mut n, mut total, mut shortest, mut longest) = (0_u64, 0_u64, u64::MAX, 0_u64);
    let mut histogram = [0_u64; BUCKETS];
    for text in &mut texts {
        let size = text?.len() as u64;
        n += 1;
        total += size;
        shortest = shortest.min(size);
        longest = longest.max(size);
        histogram[(size.max(1).ilog2() as usize).min(BUCKETS - 1)] += 1;
    }
    let account = texts.account();
    let value = json!({
        "sources": checksums, "documents": n, "text_bytes": total, "shortest_bytes": if n == 0 { 0 } else { shortest }, "longest_bytes": longest,
        "length_histogram_log2_bytes": histogram, "account": account,
    });
    terminal.result(&value, || {
        let mut out = table(
            &["source", "size", "BLAKE3"],
            checksums.iter().map(|source| vec![source.path.clone(), bytes(source.bytes), source.blake3.short()]),
        );
        out.push_str(&format!("\n{n} documents, {} of text", bytes(total)));
        if let Some(mean) = total.checked_div(n) {
            out.push_str(&format!("; {} to {} each, {} on average", bytes(shortest), bytes(longest), bytes(mean)));
        }
        out.push_str(&format!(
            "\n{} empty, {} bad rows, {} dropped by safety rules\n",
            account.empty, account.skipped.rows, account.dropped
        ));
        out.push_str(&bars(&histogram));
        for (rule, count) in &account.safety.rules {
            out.push_str(&format!("safety: {rule} {count}\n"));
        }
        for row in &account.skipped.first {
            out.push_str(&format!("bad row: {row}\n"));
        }
        out
    })
}

/// The document lengths as a picture.
fn bars(histogram: &[u64; BUCKETS]) -> String {
    let most = histogram.iter().copied().max().unwrap_or(0).max(1);
    let mut out = String::new();
    for (i, &count) in histogram.iter().enumerate().filter(|(_, count)| **count > 0) {
        let width = (count * 40).div_ceil(most) as usize;
        out.push_str(&format!("{:>9} up  {} {count}\n", bytes(1 << i), "#".repeat(width)));
    }
    out
}
