//! The `safety` section of a configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to a text in which a rule finds something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SafetyConfig {
    /// Keys, tokens, passwords.
    pub secrets: Action,
    /// Addresses and numbers of people.
    pub personal_data: Action,
    /// Attempts to talk a model out of its instructions.
    pub jailbreak: Action,
    /// Ids of rules that are off.
    pub allow: Vec<String>,
    /// A longer text is refused unread, in bytes.
    pub max_text_bytes: usize,
}

/// What a finding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The match is replaced by a word that says what was there.
    Redact,
    /// It is counted and the text stays.
    Flag,
    /// The text is left out.
    Drop,
    /// The program stops with exit code 6.
    Stop,
    /// The category is not looked for.
    Off,
}

impl Default for SafetyConfig {
    fn default() -> Self {
        Self { secrets: Action::Redact, personal_data: Action::Redact, jailbreak: Action::Flag, allow: Vec::new(), max_text_bytes: 1 << 30 }
    }
}

impl SafetyConfig {
    /// Everything that is wrong with the values, as (key below `safety`, message).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        // Listing the rules compiles them.
        let known: Vec<String> =
            if self.allow.is_empty() { Vec::new() } else { crate::scanner::rules().into_iter().map(|rule| rule.id).collect() };
        for id in &self.allow {
            if !known.contains(id) {
                let near = codex_core::suggest::nearest(id, known.iter().map(String::as_str));
                let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                found.push(("allow".to_owned(), format!("`{id}` is no rule{hint}")));
            }
        }
        if self.max_text_bytes == 0 {
            found.push(("max_text_bytes".to_owned(), "expected 1 or more, found 0".to_owned()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_rule_is_told_with_the_nearest() {
        assert!(SafetyConfig::default().problems().is_empty());
        let config = SafetyConfig { allow: vec!["emial".to_owned()], max_text_bytes: 0, ..SafetyConfig::default() };
        let problems = config.problems();
        assert_eq!(problems[0], ("allow".to_owned(), "`emial` is no rule; did you mean `email`?".to_owned()));
        assert_eq!(problems[1].0, "max_text_bytes");
    }
}
