//! Key paths: the names from the top table down to a value, and how they are written with dots.

/// The names from the top table down.
pub(crate) type KeyPath = Vec<String>;

/// `train.learning_rate`; a name that TOML could not write bare is quoted.
pub(crate) fn dotted(path: &[String]) -> String {
    path.iter().map(|name| segment(name)).collect::<Vec<_>>().join(".")
}

fn segment(name: &str) -> String {
    if is_bare(name) { name.to_owned() } else { format!("{name:?}") }
}

/// Whether TOML writes this name without quotes.
pub(crate) fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// `path` with one more name.
pub(crate) fn child(path: &[String], name: &str) -> KeyPath {
    let mut longer = path.to_vec();
    longer.push(name.to_owned());
    longer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_quoted() {
        assert_eq!(dotted(&child(&["train".to_owned()], "lr")), "train.lr");
        assert_eq!(dotted(&["a.b".to_owned(), String::new()]), r#""a.b"."""#);
    }
}
