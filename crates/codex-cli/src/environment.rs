//! The only place of the program that reads environment variables.
#![expect(clippy::disallowed_methods, reason = "configuration's environment layer starts here")]

/// Every variable whose name and value are UTF-8.
pub(crate) fn variables() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// The command line, for the run's record.
pub(crate) fn arguments() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}
