//! Documents as a person looks at them before training: each token with who says it and whether it is trained.

use std::ops::Range;

use codex_safety::Scanner;
use codex_tokenize::Tokenizer;
use codex_tokenize::chat::ChatValue;

use crate::config::{DataConfig, TrainOn};
use crate::document::{Content, Origin};
use crate::error::DataError;
use crate::layout::{EncodeFault, Layout, Layouter, PartKind};
use crate::manifest::chat_template;
use crate::pipeline::{Account, SafeDocuments};
use crate::source::Sources;

/// A document and its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowView {
    /// Where it is.
    pub origin: Origin,
    /// `text`, `prompt` or `chat`.
    pub kind: &'static str,
    /// Its tokens with the end of text.
    pub tokens: Vec<TokenView>,
}

/// A token of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenView {
    /// Its id.
    pub id: u32,
    /// Whether it is trained.
    pub is_trained: bool,
    /// Who says it: a role of the chat, `prompt`, `completion` or `text`; `template` for what stands between messages, `end` for the end of text. A
    /// token at a bound counts where it begins.
    pub role: String,
}

/// The usable documents of some sources with their tokens.
pub struct RowViews<'a> {
    documents: SafeDocuments<'a>,
    layouter: Layouter<'a>,
    tokenizer: &'a dyn Tokenizer,
    marks_assistant: bool,
}

/// Every document of the sources, training first, as it would be trained. Rows that train nothing, and bad ones where they are skipped, are counted
/// in the [account](RowViews::account) only.
pub fn view_rows<'a>(
    sources: &'a Sources,
    config: &DataConfig,
    tokenizer: &'a dyn Tokenizer,
    scanner: &'a Scanner,
) -> Result<RowViews<'a>, DataError> {
    let template = chat_template(config, sources)?;
    Ok(RowViews {
        documents: SafeDocuments::new(sources, config, scanner, None),
        layouter: Layouter::new(tokenizer, template.as_ref(), config.train_on),
        tokenizer,
        marks_assistant: config.train_on == TrainOn::Assistant,
    })
}

impl std::fmt::Debug for RowViews<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowViews").field("account", self.account()).finish_non_exhaustive()
    }
}

impl RowViews<'_> {
    /// What happened to the documents so far.
    pub fn account(&self) -> &Account {
        self.documents.account()
    }

    fn step(&mut self) -> Result<Option<RowView>, DataError> {
        while let Some(next) = self.documents.next() {
            let (_, document) = next?;
            let (kind, turns) = turns(&document.content);
            let Some(layout) = self.documents.layout(&self.layouter, document.content, &document.origin)? else { continue };
            return self.view(&layout, turns, kind, document.origin).map(Some);
        }
        Ok(None)
    }

    fn view(&self, layout: &Layout, turns: Vec<Turn>, kind: &'static str, origin: Origin) -> Result<RowView, DataError> {
        let mut of_parts = self.layouter.encode(&[layout]).map_err(|fault| match fault {
            EncodeFault::Refused(source) => DataError::Tokenize { first: origin.clone(), last: origin.clone(), source: Box::new(source) },
            EncodeFault::WrongCount { expected, found } => {
                DataError::TokenizerContract { origin: origin.clone(), expected: format!("{expected} encodings"), found: found.to_string() }
            }
        })?;
        let of_parts = of_parts.pop().unwrap_or_default();
        let said = places(&layout.text, turns);
        let mut roles: Vec<String> = Vec::new();
        for (part, ids) in layout.parts.iter().zip(&of_parts) {
            let mut at = part.at.start;
            for &id in ids {
                let speaker = said.iter().find(|(place, _)| place.contains(&at)).map(|(_, role)| role.as_str());
                let between = if part.is_trained && self.marks_assistant { "assistant" } else { "template" };
                let is_special = matches!(part.kind, PartKind::Special(_));
                roles.push(speaker.filter(|_| !is_special).unwrap_or(between).to_owned());
                at += self.tokenizer.token_bytes(id).unwrap_or(0);
            }
        }
        let encoded = self.layouter.joined(layout, of_parts);
        roles.resize(encoded.ids.len(), "end".to_owned());
        let is_trained = |i: usize| encoded.trained.as_ref().is_none_or(|trained| trained.get(i) == Some(&1));
        let tokens = encoded.ids.iter().zip(roles).enumerate();
        let tokens = tokens.map(|(i, (&id, role))| TokenView { id, is_trained: is_trained(i), role }).collect();
        Ok(RowView { origin, kind, tokens })
    }
}

impl Iterator for RowViews<'_> {
    type Item = Result<RowView, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// What someone says, and who.
type Turn = (String, String);

/// What kind of document it is, and who says what in it.
fn turns(content: &Content) -> (&'static str, Vec<Turn>) {
    let turn = |said: &str, role: &str| (said.to_owned(), role.to_owned());
    match content {
        Content::Text(text) => ("text", vec![turn(text, "text")]),
        Content::Prompt { prompt, completion } => ("prompt", vec![turn(prompt, "prompt"), turn(completion, "completion")]),
        Content::Chat { messages, .. } => {
            let word = |message: &ChatValue, key: &str| message.get(key).and_then(ChatValue::as_text).map(str::to_owned);
            ("chat", messages.iter().filter_map(|message| Some((word(message, "content")?, word(message, "role")?))).collect())
        }
    }
}

/// Where in the text each turn is; templates print what is said as it is, or without the white space around it.
fn places(text: &str, turns: Vec<Turn>) -> Vec<(Range<usize>, String)> {
    let mut at = 0;
    let mut found = Vec::with_capacity(turns.len());
    for (said, role) in turns {
        let place = [said.as_str(), said.trim()]
            .into_iter()
            .find_map(|said| text[at..].find(said).map(|start| at + start..at + start + said.len()));
        if let Some(place) = place {
            at = place.end;
            found.push((place, role));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_found_in_order_and_trimmed_ones_too() {
        let turn = |said: &str, role: &str| (said.to_owned(), role.to_owned());
        let found = places("user a. assistant a. b", vec![turn("a.", "user"), turn(" a. b ", "assistant"), turn("zz", "user")]);
        assert_eq!(found, [(5..7, "user".to_owned()), (18..22, "assistant".to_owned())]);
    }
}
