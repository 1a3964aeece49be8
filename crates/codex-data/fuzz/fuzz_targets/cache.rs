//! A token cache with any change: see `checks.rs`, which the test suite runs too.
#![no_main]
#![expect(missing_docs, reason = "what the macro makes has none")]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::cache(data));
