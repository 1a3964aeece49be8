//! Reading lines without ever holding more of one than a given number of bytes.

use std::io::{self, BufRead};

/// What the next line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// There is none.
    End,
    /// The buffer holds it, without its newline.
    Whole,
    /// It was longer than allowed; it was passed over.
    TooLong,
}

/// Lines that end with `\n` or with the input.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    max_bytes: usize,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, max_bytes: usize) -> Self {
        Self { reader, max_bytes }
    }

    /// Reads the next line into `line`, which is emptied first.
    pub(crate) fn next_line(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        line.clear();
        let (mut any, mut too_long) = (false, false);
        loop {
            let available = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if available.is_empty() {
                return Ok(if too_long {
                    Line::TooLong
                } else if any {
                    Line::Whole
                } else {
                    Line::End
                });
            }
            any = true;
            let newline = available.iter().position(|byte| *byte == b'\n');
            let piece = &available[..newline.unwrap_or(available.len())];
            too_long |= line.len() + piece.len() > self.max_bytes;
            if too_long {
                line.clear();
            } else {
                line.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(newline.is_some());
            self.reader.consume(used);
            if newline.is_some() {
                return Ok(if too_long { Line::TooLong } else { Line::Whole });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], max_bytes: usize, buffer: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::new(io::BufReader::with_capacity(buffer, bytes), max_bytes);
        let (mut found, mut line) = (Vec::new(), Vec::new());
        loop {
            match lines.next_line(&mut line).unwrap() {
                Line::End => return found,
                Line::Whole => found.push(Some(line.clone())),
                Line::TooLong => {
                    assert!(line.is_empty());
                    found.push(None);
                }
            }
        }
    }

    #[test]
    fn lines_end_at_newlines_or_the_end_and_long_ones_are_passed_over() {
        let expected = vec![Some(b"ab".to_vec()), Some(vec![]), None, Some(b"abc".to_vec())];
        assert_eq!(all(b"ab\n\nabcd\nabc", 3, 2), expected);
        assert_eq!(all(b"", 3, 2), vec![]);
        assert_eq!(all(b"\n", 3, 2), vec![Some(vec![])]);
        assert_eq!(all(b"abcdefgh", 3, 2), vec![None]);
    }

    proptest! {
        #[test]
        fn agrees_with_splitting_in_memory(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), max in 1_usize..20, buffer in 1_usize..9) {
            let mut expected: Vec<Option<Vec<u8>>> =
                bytes.split(|b| *b == b'\n').map(|line| (line.len() <= max).then(|| line.to_vec())).collect();
            if bytes.is_empty() || bytes.ends_with(b"\n") {
                expected.pop();
            }
            prop_assert_eq!(all(&bytes, max, buffer), expected);
        }
    }
}
