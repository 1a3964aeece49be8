//! Finds and redacts secrets and personal data in text and flags attempts to talk a model out of its instructions, without ever storing a match.
//!
//! Rules are patterns with checks, not lists of known examples. Names of people and postal addresses need a language model and are out of scope.
//! Whether a finding redacts, drops, stops or only counts is the [`SafetyConfig`]'s choice.
//!
//! ```
//! use codex_safety::{SafetyConfig, Scanner};
//!
//! let scanner = Scanner::new(&SafetyConfig::default())?;
//! let redacted = scanner.redact("write to jane.roe@posteo.de by Friday");
//! assert_eq!(redacted.text, "write to [EMAIL] by Friday");
//! assert_eq!(redacted.findings[0].rule, "email");
//! # Ok::<(), codex_safety::SafetyError>(())
//! ```

pub mod config;
pub mod scanner;
pub mod early;
pub mod tally;
pub mod rule;
pub mod secret_rules;
pub mod assignment_rule;
pub mod personal_rules;
pub mod account_rules;
pub mod override_rule;
pub mod check;
pub mod error;
mod place;
mod plain;

pub use config::{Action, SafetyConfig};
pub use early::EarlyText;
pub use error::SafetyError;
pub use rule::{Category, SafetyRule};
pub use scanner::{Finding, Redacted, RuleInfo, Scanner, Verdict, rules};
pub use tally::Tally;
