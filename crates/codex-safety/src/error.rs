//! Why a scanner could not be made or a text was refused.

use codex_core::{ExitClass, Failure};

/// A refusal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetyError {
    /// A configuration value cannot be used.
    #[error("safety.{key}: {message}")]
    Config {
        /// The key below `safety`.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// A rule's pattern does not compile.
    #[error("rule `{rule}`: {source}")]
    Pattern {
        /// The rule.
        rule: String,
        /// What is wrong with it.
        #[source]
        source: Box<regex::Error>,
    },
    /// The keywords of the rules cannot be searched for together.
    #[error("the rules' keywords cannot be compiled: {source}")]
    Keywords {
        /// What is wrong with them.
        #[source]
        source: Box<aho_corasick::BuildError>,
    },
    /// A text has something that the policy stops at.
    #[error("{place} has what the policy stops at: {}", rules.join(", "))]
    Stopped {
        /// Where the text is from.
        place: String,
        /// The rules that matched.
        rules: Vec<String>,
    },
}

impl Failure for SafetyError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::Stopped { .. } => ExitClass::Policy,
            _ => ExitClass::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config { .. } => Some("`codex-cli safety rules` lists the rules".to_owned()),
            Self::Stopped { .. } => Some("remove it, or set the action to `redact` or `drop`".to_owned()),
            _ => None,
        }
    }
}
