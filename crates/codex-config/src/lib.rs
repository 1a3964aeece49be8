//! Configuration in layers: each value knows which layer set it, and every problem is reported at once.
//!
//! Lowest first: the type's `Default`, a compiled-in config with the groups it lists, then for each user file its groups and the file itself, the
//! environment, the command line. A higher layer replaces single values and whole lists; tables are merged key by key.
//!
//! This crate knows no concrete configuration: a program brings a [`Schema`] and a [`Library`] of compiled-in texts. It reads no environment, no
//! current folder and no command line by itself, and it prints nothing.
//!
//! ```
//! use codex_config::{Layers, Library, Problem, Schema};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Run {
//!     seed: u64,
//! }
//! impl Schema for Run {
//!     fn problems(&self) -> Vec<Problem> {
//!         Vec::new()
//!     }
//! }
//!
//! let library = Library::new(&[("default", "seed = 1")]);
//! let run = Layers::<Run>::new(library).base("default").overrides(&["seed=7".to_owned()]).resolve().unwrap();
//! assert_eq!(run.value.seed, 7);
//! assert_eq!(run.source("seed").to_string(), "argument `seed=7`");
//! ```

mod layers;
mod assignment;
mod value_parser;
mod element;
mod functions;
mod number_text;
mod glob_pattern;
pub mod sweep;
mod argument;
mod adjustment;
mod environment;
mod group;
mod defaults_list;
mod toml_text;
mod yaml_text;
mod layer;
mod interpolation;
mod typing;
mod wording;
mod resolved;
mod excerpt;
mod error;
mod key;
mod library;
mod schema;
mod source;

pub use assignment::{Action, Assignment, Key, Setting};
pub use element::Element;
pub use error::{ConfigError, LocatedProblem};
pub use excerpt::Excerpt;
pub use layers::Layers;
pub use library::Library;
pub use resolved::{Resolved, Row};
pub use schema::{Problem, Schema};
pub use source::Source;
