//! A text that is being generated, and what can be shown of it meanwhile.

use codex_model::StopReason;
use codex_safety::{EarlyText, Scanner};
use codex_tokenize::{StreamDecoder, TokenizeError, Tokenizer};

use crate::failure::CliError;
use crate::terminal::Terminal;

/// A text that is being generated.
pub(super) struct Draft<'t> {
    tokenizer: &'t dyn Tokenizer,
    decoder: StreamDecoder<'t>,
    stop: &'t [String],
    /// Whether a special token ends it.
    is_turn: bool,
    text: String,
    ended: Option<Ended>,
    failure: Option<TokenizeError>,
}

/// What ended a text before its time.
#[derive(Clone, Copy)]
enum Ended {
    /// A stop text that begins at this byte.
    Stop(usize),
    /// A special token.
    Special,
}

/// A text that has been generated, as the model gave it.
pub(super) struct Finished {
    pub(super) text: String,
    /// Whether a stop text was cut off, so that the token ids say more than the text.
    pub(super) is_cut: bool,
    /// Why it ended.
    pub(super) stopped: &'static str,
}

impl<'t> Draft<'t> {
    /// A text without a token, which ends before any of the stop texts.
    pub(super) fn new(tokenizer: &'t dyn Tokenizer, stop: &'t [String]) -> Self {
        let decoder = StreamDecoder::new(tokenizer);
        Self { tokenizer, decoder, stop, is_turn: false, text: String::new(), ended: None, failure: None }
    }

    /// The same for a turn of a conversation: whatever else may end one, a model that begins the next one has said what it had to say.
    pub(super) fn of_turn(tokenizer: &'t dyn Tokenizer, stop: &'t [String]) -> Self {
        Self { is_turn: true, ..Self::new(tokenizer, stop) }
    }

    /// Takes the next id; tells whether to go on.
    pub(super) fn push(&mut self, id: u32) -> bool {
        if self.is_turn && self.tokenizer.is_special(id) {
            self.ended = Some(Ended::Special);
            return false;
        }
        match self.decoder.push(id) {
            Ok(piece) => {
                // A stop text that was not there before ends in the new piece.
                let longest = self.stop.iter().map(String::len).max().unwrap_or_default();
                let from = self.text.floor_char_boundary(self.text.len().saturating_sub(longest));
                self.text.push_str(&piece);
                let at = self.stop.iter().filter_map(|stop| self.text[from..].find(stop)).min();
                self.ended = at.map(|at| Ended::Stop(from + at));
                self.ended.is_none()
            }
            Err(error) => {
                self.failure = Some(error);
                false
            }
        }
    }

    /// The text that no stop text can take back.
    pub(super) fn certain(&self) -> &str {
        match self.ended {
            Some(Ended::Stop(at)) => &self.text[..at],
            _ => &self.text[..self.text.len() - self.stop.iter().map(|stop| begun(&self.text, stop)).max().unwrap_or_default()],
        }
    }

    /// The whole text, when the model has ended for this reason.
    pub(super) fn finish(self, stopped: StopReason) -> Result<Finished, CliError> {
        let Self { decoder, mut text, ended, failure, .. } = self;
        if let Some(error) = failure {
            return Err(error.into());
        }
        match ended {
            Some(Ended::Stop(at)) => text.truncate(at),
            _ => text.push_str(&decoder.finish()),
        }
        let stopped = match (ended, stopped) {
            (Some(Ended::Stop(_)), _) => "stop",
            (Some(Ended::Special), _) => "end_of_turn",
            (None, StopReason::Length) => "length",
            (None, StopReason::EndOfText) => "end_of_text",
            (None, StopReason::Context) => "context",
            (None, StopReason::Caller) => "caller",
        };
        Ok(Finished { text, is_cut: matches!(ended, Some(Ended::Stop(_))), stopped })
    }
}

/// The bytes at the end of a text that begin a stop text without being all of it.
fn begun(text: &str, stop: &str) -> usize {
    let most = stop.len().saturating_sub(1).min(text.len());
    (1..=most).rev().find(|&n| stop.is_char_boundary(n) && text.ends_with(&stop[..n])).unwrap_or_default()
}

/// Shows a text on standard output while it grows: what is certain, redacted, and without white space that may be its end.
pub(super) struct Stream<'s> {
    early: EarlyText<'s>,
    /// Whether white space before the first word is left out.
    is_trimmed: bool,
    /// Bytes of the draft that have been looked at.
    n_seen: usize,
    /// White space that is shown when something follows.
    waiting: String,
    failure: Option<CliError>,
}

impl<'s> Stream<'s> {
    /// A stream that begins with a text which may be shown as it is.
    pub(super) fn new(scanner: &'s Scanner, beginning: &str) -> Self {
        let mut stream = Self { early: EarlyText::new(scanner), is_trimmed: false, n_seen: 0, waiting: String::new(), failure: None };
        stream.show(beginning);
        stream
    }

    /// A stream of an answer, which begins with its first word.
    pub(super) fn of_answer(scanner: &'s Scanner) -> Self {
        Self { is_trimmed: true, ..Self::new(scanner, "") }
    }

    /// Shows what a draft has that can be shown; tells whether standard output takes it.
    pub(super) fn follow(&mut self, draft: &Draft<'_>) -> bool {
        // What is certain once stays so.
        let certain = if self.is_trimmed { draft.certain().trim_start() } else { draft.certain() };
        if let Some(new) = certain.get(self.n_seen..) {
            self.n_seen += new.len();
            let shown = self.early.push(new);
            self.show(&shown);
        }
        self.failure.is_none()
    }

    /// Shows the rest of the text, which is redacted; or, where there is none, ends the line.
    pub(super) fn finish(mut self, redacted: Option<&str>) -> Result<(), CliError> {
        let rest = redacted.and_then(|text| text.get(self.early.n_shown()..)).unwrap_or_default();
        self.show(rest);
        "\n".clone_into(&mut self.waiting);
        self.write(1);
        self.failure.map_or(Ok(()), Err)
    }

    fn show(&mut self, text: &str) {
        self.waiting.push_str(text);
        self.write(self.waiting.trim_end().len());
    }

    fn write(&mut self, n_bytes: usize) {
        if n_bytes > 0 && self.failure.is_none() {
            self.failure = Terminal::part(&self.waiting[..n_bytes]).err();
        }
        self.waiting.drain(..n_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_tokenize::{ByteTokenizer, TokenizerConfig};

    #[test]
    fn the_beginning_of_a_stop_text_is_held_back() {
        assert_eq!(
            [begun("a\nUs", "\nUser:"), begun("abab", "abc"), begun("abc", "abc"), begun("x", "é"), begun("", "ab")],
            [3, 2, 0, 0, 0]
        );
    }

    #[test]
    fn what_is_certain_stays_and_ends_before_the_stop_text() {
        let tokenizer = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
        let stop = ["END".to_owned(), "né.".to_owned()];
        for (text, whole, stopped) in
            [("an ENé né. x", "an ENé ", "stop"), ("one END", "one ", "stop"), ("a nén é E", "a nén é E", "length")]
        {
            let mut draft = Draft::new(&tokenizer, &stop);
            let mut certain = String::new();
            let mut goes_on = true;
            for byte in text.bytes() {
                if !goes_on {
                    break;
                }
                goes_on = draft.push(u32::from(byte) + 2);
                assert!(draft.certain().starts_with(&certain) && whole.starts_with(draft.certain()), "{:?}", draft.certain());
                certain = draft.certain().to_owned();
            }
            let finished = draft.finish(if goes_on { StopReason::Length } else { StopReason::Caller }).unwrap();
            assert_eq!((finished.text.as_str(), finished.stopped, finished.is_cut), (whole, stopped, stopped == "stop"));
        }
    }

    #[test]
    fn a_special_token_ends_a_turn_alone() {
        let tokenizer = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
        let (mut text, mut turn) = (Draft::new(&tokenizer, &[]), Draft::of_turn(&tokenizer, &[]));
        assert!(text.push(1) && !turn.push(1));
        assert_eq!(turn.finish(StopReason::Caller).unwrap().stopped, "end_of_turn");
        assert!(!text.push(9999) && text.finish(StopReason::Caller).is_err());
    }
}
