//! The codex command line.
fn main() {}
