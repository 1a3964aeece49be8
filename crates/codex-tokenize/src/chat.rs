//! Chat templates: a conversation as the text a model was trained on, with the bytes that the assistant said.
//!
//! A template is Jinja source from a stranger, so it runs in a box: no files, no clock, no other templates, and bounds on its steps, on what it
//! makes and on how deep it nests. What it prints is what `transformers` 5 prints for the same conversation; `xtask/parity/chat_templates.py`
//! compares. It is not a place for tokenizing or for masks: [`Rendered`] is text and byte ranges.

mod budget;
mod builtin;
mod guard;
mod methods;
mod operations;
mod program;
mod python;
mod sandbox;
mod slice;
mod spans;
mod template;
mod value;

pub use builtin::builtin_names;
pub use template::{Chat, ChatTemplate, Rendered};
pub use value::ChatValue;
