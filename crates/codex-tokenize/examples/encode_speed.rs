//! How fast text is encoded on one thread and on all: `cargo run --release -p codex-tokenize --example encode_speed -- FILE VOCAB_SIZE`.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement by hand: it prints times and gives up where it cannot go on"
)]

use std::time::Instant;

use codex_tokenize::{TokenizerConfig, train};

fn main() {
    let mut args = std::env::args().skip(1);
    let text = String::from_utf8_lossy(&std::fs::read(args.next().unwrap()).unwrap()).into_owned();
    let vocab_size = args.next().map_or(8192, |n| n.parse().unwrap());
    let config = TokenizerConfig { vocab_size, ..TokenizerConfig::default() };
    let sample = &text[..text.floor_char_boundary(8 << 20)];
    let tokenizer = train(&config, std::iter::once(sample), &mut |_| ()).unwrap();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut seconds: Vec<f64> = (0..3)
                .map(|_| {
                    let start = Instant::now();
                    std::hint::black_box(tokenizer.encode(&text).unwrap());
                    start.elapsed().as_secs_f64()
                })
                .collect();
            seconds.sort_unstable_by(f64::total_cmp);
            text.len() as f64 / seconds[1] / 1e6
        })
    };
    let tokens = tokenizer.encode(&text).unwrap().len();
    println!("{} bytes, {tokens} tokens, {vocab_size} ids: {:.1} MB/s on 1 thread, {:.1} MB/s on 2", text.len(), on(1), on(2));
}
