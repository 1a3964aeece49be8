//! For comparing with other programs: `import sentencepiece|ENCODING FILE FOLDER` writes a tokenizer, `encode TOKENIZER LINES OUT` writes the ids
//! of each line as JSON, `chat CASES OUT` the texts of conversations. The scripts in `xtask/parity` run it.
#![expect(clippy::expect_used, reason = "a tool for comparisons; what goes wrong is told and ends it")]

#[path = "../tests/it/tokens.rs"]
mod tokens;

fn main() {
    tokens::run();
}
