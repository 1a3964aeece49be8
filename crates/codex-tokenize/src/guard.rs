//! The last line of defence around the tokenizers library: should it panic on a file or a text in spite of the checks, that is an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::TokenizeError;

/// What `run` returns; its panic is an error of this action.
pub(crate) fn guarded<T>(action: &'static str, run: impl FnOnce() -> T) -> Result<T, TokenizeError> {
    // What a panic left half done is dropped with `run`, or only a cache of the library's.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let told = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        TokenizeError::library(action, format!("the tokenizers library gave up: {}", told.unwrap_or("no reason")))
    })
}
