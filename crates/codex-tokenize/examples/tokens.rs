//! For comparing with other programs: `import sentencepiece|ENCODING FILE FOLDER` writes a tokenizer, `encode TOKENIZER LINES OUT` writes the ids
//! of each line as JSON. The scripts in `xtask/parity` run it.
#![expect(clippy::expect_used, reason = "a tool for comparisons; what goes wrong is told and ends it")]

use std::path::Path;

use codex_core::files;
use codex_tokenize::{import_sentencepiece, import_tiktoken, load};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["import", format, from, folder] => {
            let bytes = files::read(Path::new(from)).expect("the file to import");
            let made = if format == "sentencepiece" { import_sentencepiece(&bytes) } else { import_tiktoken(&bytes, format) };
            let made = made.expect("an import");
            files::create_dir_all(Path::new(folder)).expect("the folder");
            let write = |name: &str, text: &str| files::write_atomic(&Path::new(folder).join(name), text.as_bytes()).expect("a file");
            write("tokenizer.json", &made.tokenizer_json);
            write("tokenizer_config.json", &made.tokenizer_config);
        }
        ["encode", tokenizer, lines, out] => {
            let tokenizer = load(Path::new(tokenizer)).expect("a tokenizer");
            let lines = files::read(Path::new(lines)).expect("the lines");
            let lines: Vec<String> = serde_json::from_slice(&lines).expect("a list of texts");
            let special = tokenizer.special_tokens();
            let special: Vec<&str> = special.iter().map(String::as_str).collect();
            let rows: Vec<_> = lines
                .iter()
                .map(|line| {
                    let plain = tokenizer.encode(line).expect("ids");
                    let marked = tokenizer.encode_with_special(line, &special).expect("ids");
                    let text = tokenizer.decode(&plain).expect("a text");
                    (plain, marked, text)
                })
                .collect();
            files::write_atomic(Path::new(out), serde_json::to_string(&rows).expect("JSON").as_bytes()).expect("the ids");
        }
        _ => assert!(words.is_empty(), "import sentencepiece|ENCODING FILE FOLDER, or encode TOKENIZER LINES OUT"),
    }
}
