//! Command lines and variables without the secrets in them. It goes by names and well-known prefixes; texts are scanned by codex-safety.

use std::collections::BTreeMap;

/// What stands for a secret.
pub const MASK: &str = "[masked]";

/// Names that end a word with one of these hold a secret; `tokenizer` and `max_tokens` do not.
const WORD_ENDS: [&str; 3] = ["token", "key", "pwd"];
/// Names with one of these anywhere hold a secret.
const PARTS: [&str; 5] = ["secret", "password", "passwd", "passphrase", "credential"];
/// Values that begin so are secrets whatever they are called.
const PREFIXES: [&str; 11] = ["sk-", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "hf_", "AKIA", "ASIA", "xoxb-", "xoxp-"];

/// The arguments of a command with secrets masked: `--api-key=x`, `--password x`, `wandb.token=x`, `https://user:x@host`.
pub fn command(argv: &[String]) -> Vec<String> {
    let mut next_is_secret = false;
    let mut masked = Vec::with_capacity(argv.len());
    for argument in argv {
        if next_is_secret && !argument.starts_with('-') {
            masked.push(MASK.to_owned());
            next_is_secret = false;
            continue;
        }
        next_is_secret = argument.starts_with('-') && !argument.contains('=') && names_a_secret(argument);
        masked.push(match argument.split_once('=') {
            Some((name, value)) => format!("{name}={}", value_of(name, value)),
            None => value_of("", argument),
        });
    }
    masked
}

/// The variables `CODEX_…` and `RAYON_NUM_THREADS`, with secrets masked.
pub fn variables(all: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_ours = |name: &str| name.starts_with("CODEX_") || name == "RAYON_NUM_THREADS";
    all.iter().filter(|(name, _)| is_ours(name)).map(|(name, value)| (name.clone(), value_of(name, value))).collect()
}

fn value_of(name: &str, value: &str) -> String {
    let bare = value.trim_matches(['"', '\'']);
    if !value.is_empty() && (names_a_secret(name) || PREFIXES.iter().any(|prefix| bare.starts_with(prefix))) {
        return MASK.to_owned();
    }
    without_login(value)
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    PARTS.iter().any(|part| name.contains(part)) || words.any(|word| WORD_ENDS.iter().any(|end| word.ends_with(end)))
}

/// An address without the user and password in it.
fn without_login(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
    let host_end = rest.find('/').unwrap_or(rest.len());
    match rest[..host_end].rfind('@') {
        Some(at) => format!("{scheme}://{MASK}{}", &rest[at..]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(line: &str) -> String {
        command(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).join(" ")
    }

    #[test]
    fn secrets_in_arguments_are_masked() {
        let cases = [
            ("codex-cli train --api-key=abc", "codex-cli train --api-key=[masked]"),
            ("codex-cli --password hunter2 train", "codex-cli --password [masked] train"),
            ("codex-cli --token --verbose", "codex-cli --token --verbose"),
            ("wandb.TOKEN=abc apiKey=x client_secret=y", "wandb.TOKEN=[masked] apiKey=[masked] client_secret=[masked]"),
            ("note=ghp_abc sk-abc name=\"hf_x\"", "note=[masked] [masked] name=[masked]"),
            ("uri=https://me:pw@host/path?a=b@c", "uri=https://[masked]@host/path?a=b@c"),
            ("uri=https://host/a@b https://host", "uri=https://host/a@b https://host"),
        ];
        for (line, expected) in cases {
            assert_eq!(masked(line), expected);
        }
    }

    #[test]
    fn what_determines_the_run_stays_readable() {
        let line = "codex-cli train tokenizer.vocab_size=512 generate.max_new_tokens=5 train.batch_size=8 --seed 3 api_key=";
        assert_eq!(masked(line), line);
    }

    #[test]
    fn only_our_variables_are_kept() {
        let all = [("CODEX_SERVE__API_KEY", "x"), ("CODEX_SEED", "3"), ("RAYON_NUM_THREADS", "2"), ("HOME", "/root"), ("AWS_SECRET", "y")];
        let all = all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let kept: Vec<(String, String)> = variables(&all).into_iter().collect();
        let expected = [("CODEX_SEED", "3"), ("CODEX_SERVE__API_KEY", MASK), ("RAYON_NUM_THREADS", "2")];
        assert_eq!(kept, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
