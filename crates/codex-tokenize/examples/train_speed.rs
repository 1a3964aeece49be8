//! Our trainer beside the library's on one text: `cargo run --release -p codex-tokenize --example train_speed -- FILE VOCAB_SIZE PAIRS`.
//!
//! Each pair of runs is one of ours and one of the library's, in turns first; the medians are printed with their ratio, and that the files are equal.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement by hand: it prints times and gives up where it cannot go on"
)]

use std::time::Instant;

use codex_tokenize::{TokenizerConfig, train};

#[path = "../tests/oracle/library_trainer.rs"]
mod library_trainer;

fn timed(run: impl FnOnce() -> String) -> (f64, String) {
    let start = Instant::now();
    let file = run();
    (start.elapsed().as_secs_f64(), file)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let text = String::from_utf8_lossy(&std::fs::read(args.next().unwrap()).unwrap()).into_owned();
    let vocab_size = args.next().map_or(8192, |n| n.parse().unwrap());
    let pairs: usize = args.next().map_or(3, |n| n.parse().unwrap());
    let config = TokenizerConfig { vocab_size, ..TokenizerConfig::default() };
    // Lines, as the library keeps every word of a text in memory at once.
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (mut ours, mut library) = (Vec::new(), Vec::new());
    for n in 0..pairs {
        let mut run_ours = || {
            let (seconds, file) = timed(|| train(&config, lines.iter().copied(), &mut |_| ()).unwrap().to_json().to_owned());
            ours.push(seconds);
            file
        };
        let mut run_library = || {
            let (seconds, file) = timed(|| library_trainer::library_trained(&config, &lines));
            library.push(seconds);
            file
        };
        // Whoever runs first warms the caches for the other.
        let first = if n % 2 == 0 { run_ours() } else { run_library() };
        let equal = first == if n % 2 == 0 { run_library() } else { run_ours() };
        println!("pair {n}: ours {:.2} s, the library's {:.2} s, equal files: {equal}", ours[n], library[n]);
    }
    ours.sort_unstable_by(f64::total_cmp);
    library.sort_unstable_by(f64::total_cmp);
    let (ours, library) = (ours[pairs / 2], library[pairs / 2]);
    println!(
        "{} bytes, {vocab_size} ids, {} threads: ours {ours:.2} s, the library's {library:.2} s, {:.1} times as fast",
        text.len(),
        tokenizers::parallelism::current_num_threads(),
        library / ours
    );
}
