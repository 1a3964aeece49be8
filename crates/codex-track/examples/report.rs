//! Trains the bigram model of the tests, tracks it, and draws its report: `cargo run -p codex-track --example report -- FOLDER`.

use std::path::PathBuf;
use std::sync::Arc;

use codex_core::{Clock, SystemClock};

#[path = "../tests/it/bigram_run.rs"]
mod bigram_run;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("runs"), PathBuf::from);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let run = bigram_run::train(&root, None, &clock)?;
    codex_track::report::write(&run)?;
    Ok(())
}
