//! One argument of the command line: a sign, a key, and perhaps a value.
//!
//! `key=value` sets, `+key=value` adds, `++key=value` does either, `~key` and `~key=value` delete. The key is names joined by dots, a group is
//! names joined by slashes, `@package` may follow.

use std::fmt;
use std::str::FromStr;

use crate::element::Element;
use crate::error::{ConfigError, LocatedProblem};
use crate::key::{KeyPath, is_bare};
use crate::layer::MAX_DEPTH;
use crate::sweep::Sweep;
use crate::value_parser::{self, Given, Slip};

/// Bytes of one override: what one argument of a process may hold.
pub(crate) const MAX_BYTES: usize = 128 << 10;

/// What an argument does with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `key=value`
    Set,
    /// `+key=value`
    Add,
    /// `++key=value`
    Force,
    /// `~key` or `~key=value`
    Delete,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "",
            Self::Add => "+",
            Self::Force => "++",
            Self::Delete => "~",
        })
    }
}

/// What an argument names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// `train.learning_rate`, `model`, `experiment/long`.
    pub name: String,
    /// The part after `@`.
    pub package: Option<String>,
}

impl Key {
    /// The names of a dotted key; `None` for a group with slashes.
    pub(crate) fn path(&self) -> Option<KeyPath> {
        (!self.name.contains('/')).then(|| self.name.split('.').map(str::to_owned).collect())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.package.iter().try_for_each(|package| write!(f, "@{package}"))
    }
}

/// What stands right of `=`.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// One value.
    Value(Element),
    /// Several, for several runs.
    Sweep(Sweep),
}

/// An argument, read; printed and read again it is the same.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// What it does.
    pub action: Action,
    /// What it names.
    pub key: Key,
    /// The value; `None` for `~key` alone.
    pub setting: Option<Setting>,
    /// The byte that the value begins at; the text's length when there is none.
    pub(crate) value_at: usize,
}

impl Assignment {
    /// Reads an argument.
    pub(crate) fn parse(text: &str) -> Result<Self, Slip> {
        let slip = |at, message: &str, hint: &str| Slip { at, message: message.to_owned(), hint: Some(hint.to_owned()) };
        if text.len() > MAX_BYTES {
            return Err(slip(0..0, &format!("longer than {MAX_BYTES} bytes"), "put such a value in a file"));
        }
        let start = text.len() - text.trim_start().len();
        let (action, sign) = match &text[start..] {
            rest if rest.starts_with("++") => (Action::Force, 2),
            rest if rest.starts_with('+') => (Action::Add, 1),
            rest if rest.starts_with('~') => (Action::Delete, 1),
            _ => (Action::Set, 0),
        };
        let key_at = start + sign;
        let equals = text.find('=');
        let key_end = equals.unwrap_or(text.len());
        if equals.is_none() && action != Action::Delete {
            let hint = "a key is names joined by dots, as in `train.learning_rate=3e-4`; `~key` takes a value away";
            return Err(slip(text.len()..text.len(), "expected `key=value`", hint));
        }
        let key = key(text, key_at..key_end.max(key_at))?;
        let value_at = equals.map_or(text.len(), |equals| equals + 1);
        if text[value_at..].starts_with('=') {
            return Err(slip(value_at..value_at + 1, "a second `=`", "write `key=value`; a value with `=` belongs in quotes: `key='=1'`"));
        }
        let setting = match equals {
            None => None,
            Some(_) => Some(match value_parser::parse(text, value_at)? {
                Given::Element(element) => Setting::Value(element),
                Given::Sweep(sweep) => Setting::Sweep(sweep),
            }),
        };
        Ok(Self { action, key, setting, value_at: text.len() - text[value_at..].trim_start().len() })
    }
}

impl PartialEq for Assignment {
    /// Where the value began in the text is no part of what it says.
    fn eq(&self, other: &Self) -> bool {
        (self.action, &self.key, &self.setting) == (other.action, &other.key, &other.setting)
    }
}

impl FromStr for Assignment {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::parse(text).map_err(|slip| ConfigError::of(vec![LocatedProblem::of_slip(text, slip)]))
    }
}

/// `++model.d_model=32`: parsed again it is the same.
impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.action, self.key)?;
        match &self.setting {
            None => Ok(()),
            Some(Setting::Value(element)) => write!(f, "={element}"),
            Some(Setting::Sweep(sweep)) => write!(f, "={sweep}"),
        }
    }
}

fn key(text: &str, at: std::ops::Range<usize>) -> Result<Key, Slip> {
    let written = &text[at.clone()];
    let trimmed = written.trim();
    let start = at.start + (written.len() - written.trim_start().len());
    let slip = |at, message: String, hint: &str| Err(Slip { at, message, hint: Some(hint.to_owned()) });
    if trimmed.is_empty() {
        return slip(start..start, "the key is missing".to_owned(), "write `key=value`");
    }
    if trimmed.starts_with('-') {
        return slip(start..start + 1, "a key does not begin with `-`".to_owned(), "an override is written `key=value`, without dashes");
    }
    let (name, package) = trimmed.split_once('@').map_or((trimmed, None), |(name, package)| (name, Some(package)));
    let separator = if name.contains('/') { '/' } else { '.' };
    let is_name = |name: &str| is_bare(&name.replace('$', "_")) && !name.starts_with('-');
    let mut offset = start;
    for part in name.split(separator) {
        if !is_name(part) {
            let wrong = part.char_indices().find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$')));
            return match wrong {
                Some((n, '[')) => {
                    slip(offset + n..offset + n + 1, "a key has no brackets".to_owned(), "an item of a list is written `paths.0=x`")
                }
                Some((n, c)) => slip(
                    offset + n..offset + n + c.len_utf8(),
                    format!("`{}` cannot stand in a key", crate::source::shortened(&c.to_string())),
                    "a key is names joined by dots, as in `train.learning_rate=3e-4`",
                ),
                None => slip(offset..offset + part.len(), "an empty name in the key".to_owned(), "names are joined by single dots"),
            };
        }
        offset += part.len() + 1;
    }
    if name.split(separator).count() > MAX_DEPTH {
        return slip(start..start + name.len(), format!("nested deeper than {MAX_DEPTH} levels"), "use a shorter key");
    }
    let wrong = package.is_some_and(|package| !package.is_empty() && !package.split('.').all(is_name));
    if wrong {
        return slip(offset..start + trimmed.len(), "this is no package".to_owned(), "a package is names joined by dots");
    }
    Ok(Key { name: name.to_owned(), package: package.map(str::to_owned) })
}
