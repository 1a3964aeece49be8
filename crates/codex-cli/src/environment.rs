//! The only place of the program that reads environment variables.
#![expect(clippy::disallowed_methods, reason = "configuration's environment layer starts here")]

/// Every variable whose name and value are UTF-8.
pub(crate) fn variables() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// How this program was called, for commands that can be typed again.
pub(crate) fn program() -> String {
    arguments().into_iter().next().filter(|name| !name.is_empty()).unwrap_or_else(|| "codex-cli".to_owned())
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// The command line, for the run's record.
pub(crate) fn arguments() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}
