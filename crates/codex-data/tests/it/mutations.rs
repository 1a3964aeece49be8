//! The checks of the fuzz targets on a few hundred changed examples of each kind, the same each time.

use codex_core::files;
use codex_core::stream::Stream;

#[path = "../../fuzz/checks.rs"]
mod checks;

use crate::sources::{gzip, zstd};

/// An example with one to four changes: bytes set, taken out, put in, doubled or taken from elsewhere in it.
fn changed(example: &[u8], stream: &mut Stream) -> Vec<u8> {
    let mut bytes = example.to_vec();
    for _ in 0..=stream.below(4) {
        let at = stream.below(bytes.len() as u64 + 1) as usize;
        let end = (at + 1 + stream.below(8) as usize).min(bytes.len());
        let from = stream.below(bytes.len() as u64 + 1) as usize;
        let piece = bytes[from..(from + 1 + stream.below(12) as usize).min(bytes.len())].to_vec();
        match stream.below(6) {
            0 => bytes[at..end].iter_mut().for_each(|byte| *byte = stream.next_u32() as u8),
            1 => drop(bytes.splice(at..end, [])),
            2 => drop(bytes.splice(at..at, [stream.next_u32() as u8, stream.next_u32() as u8])),
            3 => drop(bytes.splice(at..at, piece)),
            4 => drop(bytes.splice(at..end, piece)),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Feeds the check each example with each of these bytes before it, as it is and changed.
fn feed(check: fn(&[u8]), examples: &[Vec<u8>], before: &[Vec<u8>], n_changes: usize) {
    for (i, example) in examples.iter().enumerate() {
        for (j, before) in before.iter().enumerate() {
            check(&[before.as_slice(), example].concat());
            let mut stream = Stream::new(7, "changed examples", (i * 1000 + j) as u64);
            for _ in 0..n_changes {
                check(&[before.as_slice(), &changed(example, &mut stream)].concat());
            }
        }
    }
}

#[test]
fn no_change_of_a_file_of_rows_is_more_than_an_error() {
    let lines = "{\"text\": \"one é😀\"}\n\n{\"prompt\": \"a\", \"completion\": \"b\"}\r\n{\"messages\": [{\"role\": \"user\", \"content\": \"c\"}]}\n";
    let utf16: Vec<u8> = format!("\u{feff}{lines}").encode_utf16().flat_map(u16::to_be_bytes).collect();
    let examples = [
        lines.into(),
        "[\n{\"text\": \"one \\\"]\"},\n{\"text\": \"two\"}]\n".into(),
        "id,text\n1,\"one, \"\"1\"\"\nline\"\n2,two\n".into(),
        "id\ttext\n1\tone\n".into(),
        utf16,
        gzip(lines),
        zstd(&lines.repeat(20)),
        files::read(&std::path::absolute("../../fixtures/parquet/chats.parquet").unwrap()).unwrap(),
    ];
    let names = 0..checks::NAMES.len() as u8;
    let before: Vec<Vec<u8>> = names.flat_map(|name| [vec![name, 0], vec![name, 4 + name % 4]]).collect();
    feed(checks::rows, &examples, &before, 6);
}

#[test]
fn no_change_of_a_tokenizer_file_is_more_than_an_error() {
    let golden = |name: &str| files::read(&std::path::absolute(format!("../codex-tokenize/tests/golden/{name}")).unwrap()).unwrap();
    let mut examples = Vec::new();
    for name in ["bpe", "unigram-bytes"] {
        let model = golden(&format!("sentencepiece/{name}.model"));
        let json = codex_tokenize::import_sentencepiece(&model).unwrap().tokenizer_json;
        examples.push([&[0], json.as_bytes()].concat());
        examples.push([&[1], model.as_slice()].concat());
    }
    examples.push([&[2], golden("tiktoken/small.tiktoken").as_slice()].concat());
    feed(checks::tokenizers, &examples, &[Vec::new()], 30);
}

#[test]
fn no_change_of_a_cache_gives_wrong_tokens() {
    let mut stream = Stream::new(7, "changed caches", 0);
    for i in 0..400_u32 {
        let n = stream.below(4) as usize;
        let bytes: Vec<u8> = (0..4 + n).map(|_| stream.next_u32() as u8).collect();
        checks::cache(&[&[i as u8], &bytes[1..3], &[bytes[3] % 4], &bytes[4..]].concat());
    }
}
