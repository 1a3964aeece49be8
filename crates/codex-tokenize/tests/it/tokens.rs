//! The program of `examples/tokens.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use codex_core::{Timestamp, files};
use codex_tokenize::chat::{Chat, ChatTemplate, ChatValue};
use codex_tokenize::{import_sentencepiece, import_tiktoken, load};

/// What the arguments of the program ask for.
pub(crate) fn run() {
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
        ["chat", cases, out] => {
            let cases = files::read(Path::new(cases)).expect("the cases");
            let cases: Vec<Case> = serde_json::from_slice(&cases).expect("a list of cases");
            let rows: Vec<_> = cases.iter().map(Case::render).collect();
            files::write_atomic(Path::new(out), serde_json::to_string(&rows).expect("JSON").as_bytes()).expect("the texts");
        }
        _ => assert!(words.is_empty(), "import sentencepiece|ENCODING FILE FOLDER, encode TOKENIZER LINES OUT, or chat CASES OUT"),
    }
}

/// One conversation of a comparison.
#[derive(serde::Deserialize)]
struct Case {
    template: String,
    tokens: BTreeMap<String, String>,
    messages: Vec<ChatValue>,
    tools: Option<Vec<ChatValue>>,
    add_generation_prompt: bool,
    #[serde(default)]
    variables: BTreeMap<String, ChatValue>,
}

impl Case {
    /// The text and the byte ranges of the assistant, or what went wrong.
    fn render(&self) -> (String, Vec<(usize, usize)>, Option<String>) {
        let chat = Chat {
            messages: &self.messages,
            tools: self.tools.as_deref(),
            add_generation_prompt: self.add_generation_prompt,
            // 2024-07-26, in the middle of the day.
            date: Some(Timestamp(1_721_995_200_000)),
            variables: self.variables.clone(),
            ..Chat::default()
        };
        let template = ChatTemplate::from_source(&self.template, self.tokens.clone());
        match template
            .as_ref()
            .map_or_else(|error| Err(error.to_string()), |template| template.render(&chat).map_err(|error| error.to_string()))
        {
            Ok(rendered) => (rendered.text, rendered.assistant.iter().map(|span| (span.start, span.end)).collect(), None),
            Err(error) => {
                let text = template.ok().and_then(|template| template.render_text(&chat).ok());
                (text.unwrap_or_default(), Vec::new(), Some(error))
            }
        }
    }
}
