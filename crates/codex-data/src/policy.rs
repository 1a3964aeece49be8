//! The safety policy on a document: every text of it as the rules leave it, or why the document may not be used.

use std::borrow::Cow;

use codex_safety::{Scanner, Tally, Verdict};
use codex_tokenize::chat::ChatValue;

use crate::document::Content;

/// The safety policy, and what it has done.
pub(crate) struct Policy<'a> {
    /// The rules.
    pub(crate) scanner: &'a Scanner,
    /// What they found.
    pub(crate) tally: &'a mut Tally,
}

impl Policy<'_> {
    /// The content as the policy leaves each of its texts.
    pub(crate) fn content(&mut self, content: Content) -> Result<Content, Unsafe> {
        Ok(match content {
            Content::Text(text) => Content::Text(self.text(text)?),
            Content::Prompt { prompt, completion } => Content::Prompt { prompt: self.text(prompt)?, completion: self.text(completion)? },
            Content::Chat { messages, tools } => {
                let mut all = |list: Vec<ChatValue>| list.into_iter().map(|value| self.value(value, 0)).collect::<Result<Vec<_>, _>>();
                Content::Chat { messages: all(messages)?, tools: tools.map(all).transpose()? }
            }
        })
    }

    /// A message's role, which is at depth 0, has been compared with those that are known.
    fn value(&mut self, value: ChatValue, depth: usize) -> Result<ChatValue, Unsafe> {
        Ok(match value {
            ChatValue::Text(text) => ChatValue::Text(self.text(text)?),
            ChatValue::List(list) => ChatValue::List(list.into_iter().map(|value| self.value(value, depth + 1)).collect::<Result<_, _>>()?),
            ChatValue::Map(entries) => {
                let safe = |(key, value): (String, ChatValue)| {
                    let value = if depth == 0 && key == "role" { value } else { self.value(value, depth + 1)? };
                    Ok::<_, Unsafe>((key, value))
                };
                ChatValue::Map(entries.into_iter().map(safe).collect::<Result<_, _>>()?)
            }
            other => other,
        })
    }

    fn text(&mut self, text: String) -> Result<String, Unsafe> {
        match self.scanner.apply(&text, self.tally) {
            Verdict::Keep(Cow::Borrowed(_)) => {}
            Verdict::Keep(Cow::Owned(text)) => return Ok(text),
            Verdict::Drop { .. } => return Err(Unsafe::Drop),
            Verdict::Stop { rules } => return Err(Unsafe::Stop(rules)),
        }
        Ok(text)
    }
}

/// What the safety policy does with a document that it does not let through.
pub(crate) enum Unsafe {
    Drop,
    Stop(Vec<String>),
}
