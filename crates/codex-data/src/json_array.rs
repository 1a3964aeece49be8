//! The elements of one JSON array, without ever holding more of one than a given number of bytes.
//!
//! It only finds where elements begin and end; what they say is read from their bytes as from a line.

use std::io::{self, BufRead};

use crate::row::RowFault;
use crate::row_stream::{Next, newlines};

/// What is said of a file that goes on after its array.
pub(crate) const AFTER_THE_ARRAY: &str = "trailing characters after the array";

/// A reader of an array.
#[derive(Debug)]
pub(crate) struct ArrayRows<R> {
    reader: R,
    max_row_bytes: usize,
    state: State,
    /// Lines that have ended.
    lines: u64,
    /// On which the last element began.
    line: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the array.
    Start,
    /// After the opening bracket or a comma; the first may be the closing bracket.
    Element { is_first: bool },
    /// After an element.
    After,
    /// After the array.
    Done,
    /// After something that is not to be read on from.
    Broken,
}

impl<R: BufRead> ArrayRows<R> {
    pub(crate) fn new(reader: R, max_row_bytes: usize) -> Self {
        Self { reader, max_row_bytes, state: State::Start, lines: 0, line: 0 }
    }

    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    pub(crate) fn next_row(&mut self, row: &mut Vec<u8>) -> io::Result<Next> {
        row.clear();
        loop {
            if self.state == State::Broken {
                return Ok(Next::End);
            }
            let next = self.skip_space()?;
            self.line = self.lines + 1;
            match (self.state, next) {
                (State::Start | State::Done, None) | (State::Broken, _) => return Ok(Next::End),
                (State::Start, Some(b'[')) => self.pass(State::Element { is_first: true }),
                (State::Start, Some(_)) => return Ok(self.broken("expected an array of objects, `[` first")),
                (State::Element { is_first: true } | State::After, Some(b']')) => self.pass(State::Done),
                (State::After, Some(b',')) => self.pass(State::Element { is_first: false }),
                (State::Element { .. }, Some(b']' | b',')) => return Ok(self.broken("expected an element of the array")),
                (State::Element { .. }, Some(_)) => {
                    self.state = State::After;
                    return self.element(row);
                }
                (State::After, Some(_)) => return Ok(self.broken("expected `,` or `]` after an element of the array")),
                (State::Element { .. } | State::After, None) => return Ok(self.broken("the array has no end")),
                (State::Done, Some(_)) => return Ok(self.broken(AFTER_THE_ARRAY)),
            }
        }
    }

    fn broken(&mut self, message: &str) -> Next {
        self.state = State::Broken;
        Next::Bad(RowFault::NotJson { message: message.to_owned() }, None)
    }

    fn pass(&mut self, state: State) {
        self.reader.consume(1);
        self.state = state;
    }

    /// The next byte that is no white space, which is left where it is.
    fn skip_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            let available = fill(&mut self.reader)?;
            let n = available.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let next = available.get(n).copied();
            self.lines += newlines(&available[..n]);
            let is_end = available.is_empty();
            self.reader.consume(n);
            if next.is_some() || is_end {
                return Ok(next);
            }
        }
    }

    /// One element, up to what cannot be part of it.
    fn element(&mut self, row: &mut Vec<u8>) -> io::Result<Next> {
        let (mut depth, mut in_text, mut escaped, mut too_long) = (0_u64, false, false, false);
        loop {
            let available = fill(&mut self.reader)?;
            if available.is_empty() {
                // The reader of rows tells what is missing.
                break;
            }
            let mut n = 0;
            let mut has_ended = false;
            for &byte in available {
                if in_text {
                    in_text = escaped || byte != b'"';
                    escaped = byte == b'\\' && !escaped;
                } else {
                    match byte {
                        b'"' => in_text = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' if depth > 0 => depth -= 1,
                        b',' | b']' if depth == 0 => has_ended = true,
                        _ if depth == 0 && byte.is_ascii_whitespace() => has_ended = true,
                        _ => {}
                    }
                    if has_ended {
                        break;
                    }
                }
                n += 1;
                self.lines += u64::from(byte == b'\n');
            }
            too_long |= row.len() + n > self.max_row_bytes;
            if too_long {
                row.clear();
            } else {
                row.extend_from_slice(&available[..n]);
            }
            self.reader.consume(n);
            if has_ended {
                break;
            }
        }
        Ok(if too_long { Next::Bad(RowFault::TooLong { max_row_bytes: self.max_row_bytes }, None) } else { Next::Row })
    }
}

fn fill<R: BufRead>(reader: &mut R) -> io::Result<&[u8]> {
    // Asked twice, because the borrow checker does not see that a failed first borrow is over.
    loop {
        match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    reader.fill_buf()
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::row_stream::{RowFormat, check_rows, rows_of};
    use proptest::prelude::*;

    fn rows(text: &[u8], buffer: usize) -> Vec<Result<(u64, String), String>> {
        rows_of(text, RowFormat::Array, (buffer, 40))
    }

    fn check(text: &str, expected: &[Result<(u64, &str), &str>]) {
        check_rows(text, RowFormat::Array, 40, expected);
    }

    #[test]
    fn elements_are_found_whatever_they_hold() {
        check("", &[]);
        check(" \n[ ] \n", &[]);
        check("[{\"a\": 1}]", &[Ok((1, "{\"a\": 1}"))]);
        check(
            "[\n  {\"a\": \"]},\"},\n  {\"b\": [1, {\"c\": \"\\\"]\"}]}\n]\n",
            &[Ok((2, "{\"a\": \"]},\"}")), Ok((3, "{\"b\": [1, {\"c\": \"\\\"]\"}]}"))],
        );
        check("[1,\"x\",null ,[]]", &[Ok((1, "1")), Ok((1, "\"x\"")), Ok((1, "null")), Ok((1, "[]"))]);
        let long = format!("[{{\"a\": \"{}\"}}, {{}}]", "x".repeat(60));
        check(&long, &[Err("1: longer than 40 bytes"), Ok((1, "{}"))]);
    }

    #[test]
    fn what_is_no_array_is_told_with_its_line() {
        check("{\"data\": []}", &[Err("1: not JSON: expected an array of objects, `[` first")]);
        check("[{},\n,{}]", &[Ok((1, "{}")), Err("2: not JSON: expected an element of the array")]);
        check("[{},]", &[Ok((1, "{}")), Err("1: not JSON: expected an element of the array")]);
        check("[{} {}]", &[Ok((1, "{}")), Err("1: not JSON: expected `,` or `]` after an element of the array")]);
        check("[{}\n", &[Ok((1, "{}")), Err("2: not JSON: the array has no end")]);
        check("[{}] x", &[Ok((1, "{}")), Err("1: not JSON: trailing characters after the array")]);
        check("[{\"a\": ", &[Ok((1, "{\"a\": ")), Err("1: not JSON: the array has no end")]);
    }

    proptest! {
        #[test]
        fn any_array_comes_apart_as_serde_reads_it(texts in prop::collection::vec(".{0,12}", 0..8), buffer in 1_usize..40) {
            let values: Vec<_> = texts.iter().map(|text| serde_json::json!({"t": text})).collect();
            let array = serde_json::to_string_pretty(&values).unwrap();
            let mut stream = ArrayRows::new(BufReader::with_capacity(buffer, array.as_bytes()), 1 << 20);
            let (mut found, mut row) = (Vec::new(), Vec::new());
            while stream.next_row(&mut row).unwrap() == Next::Row {
                found.push(serde_json::from_slice::<serde_json::Value>(&row).unwrap());
            }
            prop_assert_eq!(found, values);
        }

        #[test]
        fn no_bytes_make_it_panic_or_go_on_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..200), buffer in 1_usize..20) {
            prop_assert!(rows(&bytes, buffer).len() <= bytes.len() + 1);
        }
    }
}
