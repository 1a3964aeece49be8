//! Several texts as one rectangle of ids: cut to a length and filled at one end, with the true lengths beside it.

use serde::{Deserialize, Serialize};

use crate::error::TokenizeError;
use crate::tokenizer::Tokenizer;

/// How texts of different lengths become rows of one length.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Padding {
    /// What the rows are filled up to.
    pub to: PadTo,
    /// The most ids a row may have; no limit when absent.
    pub max_length: Option<usize>,
    /// Whether a longer text is cut; otherwise it is an error.
    pub truncate: bool,
    /// The end of a row that is filled.
    pub side: Side,
    /// The end of a text that is cut off.
    pub truncate_side: Side,
    /// What the width of the rows is rounded up to a multiple of, past `max_length` too.
    pub multiple_of: Option<usize>,
    /// The id that rows are filled with; [`Tokenizer::pad`] when absent.
    pub pad_id: Option<u32>,
}

/// An end of a row.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub enum Side {
    /// Its start.
    #[serde(alias = "left")]
    Left,
    /// Its end.
    #[default]
    #[serde(alias = "right")]
    Right,
}

/// What the rows of a batch are filled up to.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum PadTo {
    /// The longest text of the batch.
    #[default]
    Longest,
    /// Always `max_length`, which must be given.
    MaxLength,
    /// Always this length; a text that is longer and not cut is an error.
    Length(usize),
}

/// A rectangle of ids, row after row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// `[rows * width]` ids.
    pub ids: Vec<u32>,
    /// `[rows]` ids of each row that come from its text; the rest of the row is padding.
    pub lengths: Vec<usize>,
    /// How many ids a row has.
    pub width: usize,
    /// The end at which the padding stands.
    pub side: Side,
}

impl Batch {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// The `[width]` ids of one row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, index: usize) -> &[u32] {
        &self.ids[index * self.width..(index + 1) * self.width]
    }

    /// `[rows * width]` marks: `true` where an id comes from a text, `false` where it is padding.
    pub fn mask(&self) -> Vec<bool> {
        let of_text = |length: usize, position: usize| match self.side {
            Side::Left => position >= self.width - length,
            Side::Right => position < length,
        };
        self.lengths.iter().flat_map(|&length| (0..self.width).map(move |position| of_text(length, position))).collect()
    }
}

/// Encodes texts into one rectangle.
pub fn encode_padded(tokenizer: &dyn Tokenizer, texts: &[&str], padding: &Padding) -> Result<Batch, TokenizeError> {
    if padding.to == PadTo::MaxLength && padding.max_length.is_none() {
        let problem = ("max_length".to_owned(), "expected a length, as rows are padded to it, found none".to_owned());
        return Err(TokenizeError::Config { problems: vec![problem] });
    }
    let mut rows = tokenizer.encode_batch(texts)?;
    if let Some(max_length) = padding.max_length {
        for (index, row) in rows.iter_mut().enumerate() {
            if row.len() > max_length && !padding.truncate {
                return Err(TokenizeError::TooLong { index, tokens: row.len(), max_length });
            }
            match padding.truncate_side {
                Side::Left => drop(row.drain(..row.len().saturating_sub(max_length))),
                Side::Right => row.truncate(max_length),
            }
        }
    }
    let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let width = match (padding.to, padding.max_length) {
        (PadTo::MaxLength, Some(max_length)) => max_length,
        (PadTo::Length(length), _) => length,
        _ => longest,
    };
    let width = padding.multiple_of.filter(|&multiple| multiple > 0).map_or(width, |multiple| width.next_multiple_of(multiple));
    if let Some((index, &tokens)) = lengths.iter().enumerate().find(|(_, length)| **length > width) {
        return Err(TokenizeError::TooLong { index, tokens, max_length: width });
    }
    let pad = padding.pad_id.unwrap_or_else(|| tokenizer.pad());
    let mut ids = Vec::with_capacity(rows.len() * width);
    for row in rows {
        let fill = std::iter::repeat_n(pad, width - row.len());
        match padding.side {
            Side::Left => ids.extend(fill.chain(row)),
            Side::Right => ids.extend(row.into_iter().chain(fill)),
        }
    }
    Ok(Batch { ids, lengths, width, side: padding.side })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byte::ByteTokenizer;
    use crate::config::TokenizerConfig;

    fn batch(texts: &[&str], padding: &Padding) -> Result<Batch, TokenizeError> {
        encode_padded(&ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap(), texts, padding)
    }

    #[test]
    fn rows_are_padded_to_the_longest() {
        let batch = batch(&["ab", "", "c"], &Padding::default()).unwrap();
        assert_eq!(batch.ids, [99, 100, 1, 1, 101, 1]);
        assert_eq!((batch.lengths.as_slice(), batch.width, batch.rows()), ([2, 0, 1].as_slice(), 2, 3));
        assert_eq!(batch.mask(), [true, true, false, false, true, false]);
        assert_eq!(batch.row(2), [101, 1]);
    }

    #[test]
    fn rows_are_cut_and_padded_to_the_length() {
        let padding = |truncate| Padding { to: PadTo::MaxLength, max_length: Some(3), truncate, ..Padding::default() };
        let cut = batch(&["abcd", "e"], &padding(true)).unwrap();
        assert_eq!(cut.ids, [99, 100, 101, 103, 1, 1]);
        assert_eq!(cut.lengths, [3, 1]);
        assert!(matches!(batch(&["e", "abcd"], &padding(false)), Err(TokenizeError::TooLong { index: 1, tokens: 4, max_length: 3 })));
        let longest = Padding { max_length: Some(3), truncate: true, ..Padding::default() };
        assert_eq!(batch(&["e", "fg"], &longest).unwrap().width, 2);
    }

    #[test]
    fn an_absent_length_and_an_empty_batch() {
        let padding = Padding { to: PadTo::MaxLength, ..Padding::default() };
        assert!(matches!(batch(&["a"], &padding), Err(TokenizeError::Config { .. })));
        assert_eq!(batch(&[], &Padding::default()).unwrap(), Batch { ids: vec![], lengths: vec![], width: 0, side: Side::Right });
        let padding: Padding = serde_json::from_str(r#"{"to": "max_length", "max_length": 8}"#).unwrap();
        assert_eq!(padding, Padding { to: PadTo::MaxLength, max_length: Some(8), ..Padding::default() });
    }

    #[test]
    fn either_end_is_filled_or_cut_and_the_width_is_rounded_up() {
        let left = Padding {
            side: Side::Left,
            truncate_side: Side::Left,
            max_length: Some(3),
            truncate: true,
            multiple_of: Some(2),
            pad_id: Some(7),
            ..Padding::default()
        };
        let found = batch(&["abcd", "e"], &left).unwrap();
        assert_eq!((found.ids.as_slice(), found.width), ([7, 100, 101, 102, 7, 7, 7, 103].as_slice(), 4));
        assert_eq!(found.mask(), [false, true, true, true, false, false, false, true]);
        let fixed = Padding { to: PadTo::Length(2), ..Padding::default() };
        assert_eq!(batch(&["a"], &fixed).unwrap().ids, [99, 1]);
        assert!(matches!(batch(&["a", "abc"], &fixed), Err(TokenizeError::TooLong { index: 1, tokens: 3, max_length: 2 })));
    }
}
