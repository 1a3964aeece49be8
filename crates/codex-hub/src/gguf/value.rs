//! Values of a GGUF file's metadata: their codes, their bytes, and typed access to them by key.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::HubError;

/// The metadata of a file by key.
pub type Metadata = BTreeMap<String, GgufValue>;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    /// 8 bits without sign.
    U8(u8),
    /// 8 bits with sign.
    I8(i8),
    /// 16 bits without sign.
    U16(u16),
    /// 16 bits with sign.
    I16(i16),
    /// 32 bits without sign.
    U32(u32),
    /// 32 bits with sign.
    I32(i32),
    /// 64 bits without sign.
    U64(u64),
    /// 64 bits with sign.
    I64(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of numbers or flags, as the file holds it.
    Numbers {
        /// What they are.
        kind: NumberKind,
        /// Their bytes, one after the other.
        bytes: Vec<u8>,
    },
}

/// What the numbers of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberKind {
    /// 8 bits without sign.
    U8,
    /// 8 bits with sign.
    I8,
    /// 16 bits without sign.
    U16,
    /// 16 bits with sign.
    I16,
    /// 32 bits without sign.
    U32,
    /// 32 bits with sign.
    I32,
    /// 32-bit floats.
    F32,
    /// One byte each, 0 or 1.
    Bool,
    /// 64 bits without sign.
    U64,
    /// 64 bits with sign.
    I64,
    /// 64-bit floats.
    F64,
}

/// The code of a text.
pub(crate) const TEXT: u32 = 8;
/// The code of a list.
pub(crate) const LIST: u32 = 9;

impl NumberKind {
    const ALL: [Self; 11] =
        [Self::U8, Self::I8, Self::U16, Self::I16, Self::U32, Self::I32, Self::F32, Self::Bool, Self::U64, Self::I64, Self::F64];

    /// Its code in a file.
    pub fn code(self) -> u32 {
        match self {
            Self::U8 => 0,
            Self::I8 => 1,
            Self::U16 => 2,
            Self::I16 => 3,
            Self::U32 => 4,
            Self::I32 => 5,
            Self::F32 => 6,
            Self::Bool => 7,
            Self::U64 => 10,
            Self::I64 => 11,
            Self::F64 => 12,
        }
    }

    /// The kind that has this code.
    pub fn of_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The value of one number's bytes; `None` where they are too few, or of a flag neither 0 nor 1.
    pub(crate) fn value(self, bytes: &[u8]) -> Option<GgufValue> {
        Some(match self {
            Self::U8 => GgufValue::U8(u8::from_le_bytes(bytes.try_into().ok()?)),
            Self::I8 => GgufValue::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
            Self::U16 => GgufValue::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
            Self::I16 => GgufValue::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
            Self::U32 => GgufValue::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
            Self::I32 => GgufValue::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
            Self::U64 => GgufValue::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            Self::I64 => GgufValue::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
            Self::F32 => GgufValue::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            Self::F64 => GgufValue::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            Self::Bool => match bytes {
                [0] => GgufValue::Bool(false),
                [1] => GgufValue::Bool(true),
                _ => return None,
            },
        })
    }
}

impl GgufValue {
    /// A list of whole numbers.
    pub fn ints(values: &[i32]) -> Self {
        Self::Numbers { kind: NumberKind::I32, bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }

    /// A list of floats.
    pub fn floats(values: &[f32]) -> Self {
        Self::Numbers { kind: NumberKind::F32, bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Appends its code and bytes.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                to.extend(TEXT.to_le_bytes());
                write_text(text, to);
            }
            Self::Texts(texts) => {
                to.extend(LIST.to_le_bytes());
                to.extend(TEXT.to_le_bytes());
                to.extend((texts.len() as u64).to_le_bytes());
                for text in texts {
                    write_text(text, to);
                }
            }
            Self::Numbers { kind, bytes } => {
                to.extend(LIST.to_le_bytes());
                to.extend(kind.code().to_le_bytes());
                to.extend(((bytes.len() / kind.size()) as u64).to_le_bytes());
                to.extend(bytes);
            }
            Self::U8(value) => number(NumberKind::U8, &value.to_le_bytes(), to),
            Self::I8(value) => number(NumberKind::I8, &value.to_le_bytes(), to),
            Self::U16(value) => number(NumberKind::U16, &value.to_le_bytes(), to),
            Self::I16(value) => number(NumberKind::I16, &value.to_le_bytes(), to),
            Self::U32(value) => number(NumberKind::U32, &value.to_le_bytes(), to),
            Self::I32(value) => number(NumberKind::I32, &value.to_le_bytes(), to),
            Self::U64(value) => number(NumberKind::U64, &value.to_le_bytes(), to),
            Self::I64(value) => number(NumberKind::I64, &value.to_le_bytes(), to),
            Self::F32(value) => number(NumberKind::F32, &value.to_le_bytes(), to),
            Self::F64(value) => number(NumberKind::F64, &value.to_le_bytes(), to),
            Self::Bool(value) => number(NumberKind::Bool, &[u8::from(*value)], to),
        }
    }

    /// A value as a message shows it: short.
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
            Self::Texts(texts) => format!("a list of {} texts", texts.len()),
            Self::Numbers { kind, bytes } => format!("a list of {} numbers", bytes.len() / kind.size()),
            other => format!("{other:?}"),
        }
    }
}

fn number(kind: NumberKind, bytes: &[u8], to: &mut Vec<u8>) {
    to.extend(kind.code().to_le_bytes());
    to.extend(bytes);
}

/// Appends a text: its length in bytes, and the bytes.
pub(crate) fn write_text(text: &str, to: &mut Vec<u8>) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}

/// The metadata of a file that is read, with errors that name file and key.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    pub(crate) path: &'a Path,
    pub(crate) all: &'a Metadata,
}

impl<'a> Keys<'a> {
    fn wrong(self, key: &str, expected: &str, found: &GgufValue) -> HubError {
        HubError::malformed(self.path, key, expected, found.shown())
    }

    fn missing(self, key: &str, expected: &str) -> HubError {
        HubError::malformed(self.path, key, expected, "nothing")
    }

    /// A text.
    pub(crate) fn text(self, key: &str) -> Result<Option<&'a str>, HubError> {
        match self.all.get(key) {
            None => Ok(None),
            Some(GgufValue::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, "a text", other)),
        }
    }

    /// A count.
    pub(crate) fn count(self, key: &str) -> Result<Option<usize>, HubError> {
        match self.all.get(key) {
            None => Ok(None),
            Some(GgufValue::U32(count)) => Ok(Some(*count as usize)),
            Some(other) => Err(self.wrong(key, "a 32-bit count", other)),
        }
    }

    /// A count that must be there.
    pub(crate) fn needed_count(self, key: &str) -> Result<usize, HubError> {
        self.count(key)?.ok_or_else(|| self.missing(key, "a 32-bit count"))
    }

    /// A number, as the shortest decimal that is the same in 32 bits.
    pub(crate) fn number(self, key: &str) -> Result<Option<f64>, HubError> {
        match self.all.get(key) {
            None => Ok(None),
            Some(GgufValue::F32(value)) => Ok(Some(widened(*value))),
            Some(other) => Err(self.wrong(key, "a 32-bit float", other)),
        }
    }

    /// A number that must be there.
    pub(crate) fn needed_number(self, key: &str) -> Result<f64, HubError> {
        self.number(key)?.ok_or_else(|| self.missing(key, "a 32-bit float"))
    }
}

/// The f64 with the shortest decimal digits that name this f32: 0.1 and not 0.100000001490116.
pub(crate) fn widened(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_format() {
        let codes: Vec<u32> = NumberKind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12]);
        assert!([TEXT, LIST, 13, u32::MAX].iter().all(|&code| NumberKind::of_code(code).is_none()));
        let mut bytes = Vec::new();
        GgufValue::U32(7).write(&mut bytes);
        GgufValue::text("ab").write(&mut bytes);
        GgufValue::ints(&[-1]).write(&mut bytes);
        let expected = [4, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b'];
        assert_eq!(bytes[..22], expected);
        assert_eq!(bytes[22..], [9, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn a_float_keeps_its_decimal_digits() {
        for value in [1e-5_f64, 1e-6, 10_000.0, 500_000.0, 0.1, 8.0, 1.138_629_4] {
            assert_eq!(widened(value as f32).to_bits(), value.to_bits());
        }
    }

    #[test]
    fn a_value_of_another_type_is_told() {
        let all = Metadata::from([("a".to_owned(), GgufValue::I32(3)), ("b".to_owned(), GgufValue::text("x"))]);
        let keys = Keys { path: Path::new("m.gguf"), all: &all };
        assert_eq!(keys.count("a").unwrap_err().to_string(), "`m.gguf`: `a`: expected a 32-bit count, found I32(3)");
        assert!(keys.number("b").unwrap_err().to_string().contains("the text \"x\""));
        assert!(keys.needed_count("c").unwrap_err().to_string().contains("found nothing"));
        assert!(keys.text("b").unwrap() == Some("x") && keys.text("c").unwrap().is_none());
    }
}
