//! What one rendering may still make: bytes of text and elements of lists, whatever becomes of them.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// What a rendering may make beyond a multiple of what it is given.
const BASE: usize = 32 << 20;
/// How many times what it is given it may make.
const TIMES_INPUT: usize = 64;
/// How deep values may nest: dropping one takes stack for each level.
const MAX_DEPTH: usize = 100;

/// The bound of one rendering, and why it stopped.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
    stop: Mutex<Option<Stop>>,
}

/// Why a template was stopped, beyond what the engine says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It called `raise_exception` with this text.
    Raised(String),
    /// It made too much.
    TooMuch,
    /// It nested values too deeply.
    TooDeep,
    /// It asked for the date, and none was given.
    NoDate,
}

impl Budget {
    /// The budget for an input of so many bytes.
    pub(crate) fn new(input: usize) -> Self {
        Self { left: AtomicUsize::new(input.saturating_mul(TIMES_INPUT).saturating_add(BASE)), stop: Mutex::default() }
    }

    /// Takes so much off; an error when it is not there.
    pub(crate) fn charge(&self, amount: usize) -> Result<(), Error> {
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount)) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.stop(Stop::TooMuch)),
        }
    }

    /// Notes why the template stops, as an error for the engine.
    pub(crate) fn stop(&self, why: Stop) -> Error {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        Error::new(ErrorKind::InvalidOperation, "the template was stopped")
    }

    /// Why it was stopped.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes off what looking at a value costs: its bytes when it is a text, its elements when it is a list.
    pub(crate) fn look(&self, value: &Value) -> Result<(), Error> {
        self.charge(match value.as_str() {
            Some(text) => 1 + text.len(),
            None => 1 + value.len().unwrap_or(0),
        })
    }

    /// Takes off one for each value within, and refuses what nests too deeply.
    pub(crate) fn weigh(&self, value: &Value) -> Result<(), Error> {
        self.weigh_at(value, 0)
    }

    fn weigh_at(&self, value: &Value, depth: usize) -> Result<(), Error> {
        self.charge(1)?;
        if depth > MAX_DEPTH {
            return Err(self.stop(Stop::TooDeep));
        }
        match value.kind() {
            ValueKind::Map => {
                for key in value.try_iter()? {
                    self.weigh_at(&value.get_item(&key)?, depth + 1)?;
                }
            }
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    self.weigh_at(&item, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A value with no work left to do: an iterable as a list, its elements counted.
    pub(crate) fn settled(&self, value: Value) -> Result<Value, Error> {
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                let mut list = Vec::new();
                for item in value.try_iter()? {
                    self.charge(1)?;
                    list.push(item);
                }
                let list = Value::from(list);
                self.weigh(&list)?;
                Ok(list)
            }
            ValueKind::Map => {
                self.weigh(&value)?;
                Ok(value)
            }
            _ => {
                self.look(&value)?;
                Ok(value)
            }
        }
    }
}

/// A text that is paid for as it grows.
#[derive(Debug)]
pub(crate) struct PaidText<'b> {
    text: String,
    budget: &'b Budget,
}

impl<'b> PaidText<'b> {
    pub(crate) fn new(budget: &'b Budget) -> Self {
        Self { text: String::new(), budget }
    }

    pub(crate) fn push(&mut self, text: &str) -> Result<(), Error> {
        self.budget.charge(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    /// The same text several times.
    pub(crate) fn push_times(&mut self, text: &str, times: usize) -> Result<(), Error> {
        self.budget.charge(text.len().saturating_mul(times))?;
        self.text.extend(std::iter::repeat_n(text, times));
        Ok(())
    }

    pub(crate) fn budget(&self) -> &'b Budget {
        self.budget
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}
