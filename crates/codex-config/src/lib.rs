//! Configuration in layers: each value knows which layer set it, and every problem is reported at once.
//!
//! Lowest first: the type's `Default`, a compiled-in config with the groups it lists, then for each user file its groups and the file itself, the
//! environment, the command line. A higher layer replaces single values and whole lists; tables are merged key by key.
//!
//! # The command line
//!
//! Overrides have the grammar of Hydra 1.3, and TOML's and JSON's spellings of values beside it: `key=value` sets (in a table of any keys the entry
//! must be there), `+key=value` adds what no layer has set, `++key=value` does either, `~key` and `~key=value` take away what the layers set,
//! `list.0=value` sets an item. `group=option` chooses a config of a group, `~group` and `group=null` drop it. What has several values is for
//! [`sweep`]. Where this parser and Hydra's differ on purpose is listed in the crate's tests, each with its reason.
//!
//! # Groups
//!
//! A text's `defaults` lists the groups it takes: `"model/tiny"`, `{ model = "tiny" }`, with `optional` or `override` before the group's name.
//! They lie below the text's own values, unless `_self_` marks another place. Of two groups the later wins, and lies above those of lower texts;
//! one that says `override` drops what was chosen for its group before, so that none of those values is left.
//!
//! A group chosen on the command line also drops what any text chose, and lies above every text and the environment. This is not Hydra's order:
//! there a preset `experiment=long` loses to the primary config's own values, unless that config says `_self_` first. Who types a preset wants it.
//! Single values typed beside it still win over it.
//!
//! # References
//!
//! `${model.d_model}` and `${env:NAME,default}` in a string of any layer are replaced before values are typed; `\${` is `${` as text. What
//! `${` begins and is neither is a problem. The variables are those of [`Layers::variables`].
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
mod comparison;
mod json_schema;
mod reference;
mod excerpt;
mod error;
mod key;
mod library;
mod schema;
mod source;

pub use assignment::{Action, Assignment, Key, Setting};
pub use comparison::{Comparison, Difference, Side, diff};
pub use element::Element;
pub use error::{ConfigError, LocatedProblem};
pub use excerpt::Excerpt;
pub use json_schema::schema_of;
pub use layers::Layers;
pub use library::Library;
pub use reference::reference_markdown;
pub use resolved::{Resolved, Row};
pub use schema::{Problem, Schema};
pub use source::Source;
