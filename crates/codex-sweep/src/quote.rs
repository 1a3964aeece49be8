//! Texts made safe for where they are written: a word of a shell, a scalar of YAML, an argument that Kubernetes expands.

/// Signs that no shell and no Windows-style joining of arguments reads as anything but themselves.
pub(crate) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '=' | '@' | ',' | '+')
}

/// One word of a POSIX shell, whatever is in the text.
pub(crate) fn shell(text: &str) -> String {
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A double-quoted scalar of YAML 1.2 (section 7.3.1): printable ASCII as it is, everything else escaped.
pub(crate) fn yaml(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            ' '..='~' => quoted.push(c),
            c if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// The scalar of an argument in which Kubernetes expands no `$(NAME)`.
pub(crate) fn kubernetes_argument(text: &str) -> String {
    yaml(&text.replace('$', "$$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_quotes() {
        assert_eq!(shell("runs/a-1.toml"), "runs/a-1.toml");
        assert_eq!(shell(""), "''");
        assert_eq!(shell("a b"), "'a b'");
        assert_eq!(shell("it's $(x) `y` \"z\""), r#"'it'\''s $(x) `y` "z"'"#);
        assert_eq!(yaml("a: \"b\\\n#é\u{7f}\u{1f600}"), r#""a: \"b\\\u000A#\u00E9\u007F\U0001F600""#);
        assert_eq!(kubernetes_argument("$(HOME)/$x"), "\"$$(HOME)/$$x\"");
    }
}
