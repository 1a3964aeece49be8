//! `tokenizer validate|stats|compare`: what a tokenizer makes of texts.

use std::path::Path;

use codex_tokenize::{
    Comparison, ScriptStats, TokenSpan, Tokenizer, TokenizerStats, compare, load, stats, token_spans, validate, validate_against,
};
use serde_json::json;

use crate::failure::CliError;
use crate::stored_model;
use crate::terminal::{Terminal, table};

/// The compiled-in text that nobody trains on.
pub(super) const UNSEEN: &str = "builtin:austen/validation";

/// Whether it keeps its promises on these texts, and whether a model has a row for each of its ids.
pub(super) fn check(path: &Path, texts: &[String], model: Option<&Path>, terminal: &Terminal) -> Result<(), CliError> {
    let tokenizer = load(path)?;
    let report = validate(tokenizer.as_ref(), texts.iter().map(String::as_str))?;
    let fit = match model {
        Some(model) => Some(validate_against(tokenizer.as_ref(), stored_model::find(model, "latest")?.vocab_size())),
        None => None,
    };
    let mut rows = vec![
        ("texts", report.texts.to_string()),
        ("round-trip failures", report.round_trip_failures.len().to_string()),
        ("unused ids", report.unused_ids.to_string()),
        ("special-token collisions", report.special_collisions.len().to_string()),
        ("gaps in the ids", report.id_gaps.len().to_string()),
    ];
    if let Some(fit) = &fit {
        rows.push(("ids without a row in the model", fit.ids_without_row.to_string()));
        rows.push(("rows of the model without an id", fit.rows_without_id.to_string()));
    }
    let mut value = json!(report);
    value["model"] = json!(fit);
    terminal.result(&value, || table(&["check", "found"], rows.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()])))?;
    let wrong = |reason: String, hint: &'static str| Err(CliError::Integrity { path: path.to_owned(), reason, hint });
    if !report.is_ok() {
        return wrong("the tokenizer does not read these texts back exactly".to_owned(), "train another with `codex-cli tokenizer train`");
    }
    match fit.filter(|fit| !fit.is_ok()) {
        Some(fit) => {
            let reason =
                format!("{} of its {} ids have no row in a model of {}", fit.ids_without_row, fit.vocab_size, fit.model_vocab_size);
            wrong(reason, "use the tokenizer that the model was trained with")
        }
        None => Ok(()),
    }
}

/// How well it suits these texts.
pub(super) fn count(path: &Path, texts: &[String], terminal: &Terminal) -> Result<(), CliError> {
    let found = stats(load(path)?.as_ref(), texts.iter().map(String::as_str))?;
    terminal.result(&found, || {
        let longest = found.longest_token.as_ref();
        let longest = longest.map_or_else(|| "-".to_owned(), |longest| format!("{:?} ({} bytes)", longest.token, longest.bytes));
        let rows = stats_rows(&found).into_iter().chain([("longest token", longest)]);
        let mut out = table(&["", "value"], rows.map(|(name, value)| vec![name.to_owned(), value]));
        out.push('\n');
        out.push_str(&table(
            &["writing system", "texts", "bytes", "tokens", "bytes per token", "tokens per word"],
            found.scripts.iter().map(script_row),
        ));
        out
    })
}

fn stats_rows(found: &TokenizerStats) -> Vec<(&'static str, String)> {
    vec![
        ("texts", found.texts.to_string()),
        ("bytes", found.bytes.to_string()),
        ("tokens", found.tokens.to_string()),
        ("bytes per token", format!("{:.3}", found.bytes_per_token)),
        ("tokens per word", format!("{:.3}", found.tokens_per_word)),
        ("ids", found.vocab_size.to_string()),
        ("ids not used", found.unused_ids.len().to_string()),
        ("ids used", format!("{:.1} %", 100.0 * found.used_share)),
        ("bytes in tokens of several", format!("{:.1} %", 100.0 * found.multi_byte_share)),
    ]
}

fn script_row((name, of): (&String, &ScriptStats)) -> Vec<String> {
    let ScriptStats { texts, bytes, tokens, bytes_per_token, tokens_per_word, .. } = of;
    vec![
        name.clone(),
        texts.to_string(),
        bytes.to_string(),
        tokens.to_string(),
        format!("{bytes_per_token:.3}"),
        format!("{tokens_per_word:.3}"),
    ]
}

/// Two of them on the same texts, and how each cuts one text.
pub(super) fn side_by_side((a, b): (&Path, &Path), texts: &[String], shown: Option<&str>, terminal: &Terminal) -> Result<(), CliError> {
    let tokenizers = (load(a)?, load(b)?);
    let found = compare(tokenizers.0.as_ref(), tokenizers.1.as_ref(), &texts.iter().map(String::as_str).collect::<Vec<_>>())?;
    let of = |tokenizer: &dyn Tokenizer| shown.map(|text| token_spans(tokenizer, text)).transpose().map(Option::flatten);
    let spans = (of(tokenizers.0.as_ref())?, of(tokenizers.1.as_ref())?);
    let mut value = json!(found);
    value["text"] = json!(shown);
    (value["spans_a"], value["spans_b"]) = (json!(spans.0), json!(spans.1));
    terminal.result(&value, || {
        let names = [a, b].map(|path| path.display().to_string());
        let mut out = comparison_table(&found, &names);
        for (name, of_one) in names.iter().zip([&spans.0, &spans.1]) {
            let Some(text) = shown else { break };
            let view = of_one
                .as_ref()
                .map_or_else(|| "it does not keep every byte of this text".to_owned(), |spans| cut(text, spans, Terminal::has_colour()));
            let n = of_one.as_ref().map_or(0, Vec::len);
            out.push_str(&format!("\n{name}: {n} tokens\n{view}\n"));
        }
        out
    })
}

fn comparison_table(found: &Comparison, names: &[String; 2]) -> String {
    let rows = stats_rows(&found.a).into_iter().zip(stats_rows(&found.b));
    let rows = rows.map(|((name, a), (_, b))| vec![name.to_owned(), a, b]);
    let shared = vec![
        format!("{} tokens of both", found.shared_tokens),
        format!("{:.1} %", 100.0 * found.shared_of_a),
        format!("{:.1} %", 100.0 * found.shared_of_b),
    ];
    let mut out = table(&["", &names[0], &names[1]], rows.chain([shared]));
    out.push_str(&format!("\n{} of {} texts are cut alike\n", found.texts_cut_alike, found.a.texts));
    if found.texts_without_spans > 0 {
        out.push_str(&format!("{} texts are not kept byte for byte by one of them\n", found.texts_without_spans));
    }
    for difference in &found.differences {
        out.push_str(&format!("text {} from byte {}: {:?} or {:?}\n", difference.index, difference.at, difference.a, difference.b));
    }
    out
}

/// A text with its tokens told apart: by two colours in turns, or by bars. What a terminal would act on is escaped; a character that is cut in two is
/// shown in parts.
fn cut(text: &str, spans: &[TokenSpan], in_colour: bool) -> String {
    const COLOURS: [&str; 2] = ["\u{1b}[30;46m", "\u{1b}[30;43m"];
    let parts = spans.iter().enumerate().map(|(i, span)| {
        let bytes = text.as_bytes().get(span.start..span.end).unwrap_or_default();
        let shown: String = match std::str::from_utf8(bytes) {
            Ok(part) => part
                .chars()
                .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
                .collect::<Vec<_>>()
                .concat(),
            Err(_) => bytes.iter().map(|byte| format!("<{byte:02x}>")).collect::<Vec<_>>().concat(),
        };
        if in_colour { format!("{}{shown}\u{1b}[0m", COLOURS[i % 2]) } else { shown }
    });
    parts.collect::<Vec<_>>().join(if in_colour { "" } else { "|" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_apart_and_cannot_command_a_terminal() {
        let span = |start, end| TokenSpan { id: 0, start, end };
        let text = "a\u{1b}b é";
        assert_eq!(cut(text, &[span(0, 2), span(2, 4), span(4, 5), span(5, 6)], false), "a\\u{1b}|b |<c3>|<a9>");
        let coloured = cut(text, &[span(0, 1), span(1, 6)], true);
        assert_eq!(coloured, "\u{1b}[30;46ma\u{1b}[0m\u{1b}[30;43m\\u{1b}b é\u{1b}[0m");
    }
}
