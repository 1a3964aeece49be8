//! Command lines and variables without the secrets in them. It goes by names and well-known prefixes; texts are scanned by codex-safety.

use std::collections::BTreeMap;

use serde_json::Value;

/// What stands for a secret.
pub const MASK: &str = "[masked]";

/// Names that end a word with one of these hold a secret; `tokenizer` and `max_tokens` do not.
const WORD_ENDS: [&str; 4] = ["token", "key", "pwd", "auth"];
/// Names with one of these anywhere hold a secret.
const PARTS: [&str; 8] = ["secret", "password", "passwd", "passphrase", "passcode", "credential", "authorization", "cookie"];
/// Words before `token` or `key` that make it a part of the data: `pad_token=<pad>`, `text_key=content`.
const OF_DATA: [&str; 16] =
    ["pad", "eos", "bos", "unk", "sep", "cls", "mask", "special", "end", "start", "stop", "text", "sort", "prompt", "public", "cache"];
/// Values that begin so are secrets whatever they are called.
const PREFIXES: [&str; 11] = ["sk-", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "hf_", "AKIA", "ASIA", "xoxb-", "xoxp-"];
/// The same, where at least [`LONG`] characters follow.
const LONG_PREFIXES: [&str; 11] =
    ["ghu_", "ghr_", "npm_", "pypi-", "sk_live_", "rk_live_", "AIza", "ya29.", "xapp-", "dop_v1_", "-----BEGIN"];
const LONG: usize = 16;
/// What is nested deeper in `a=b=c` is masked unseen.
const MAX_DEPTH: usize = 8;

/// The arguments of a command with secrets masked: `--api-key=x`, `--password x`, `wandb.token=x`, `https://user:x@host`,
/// `Authorization: Bearer x`, `Server=db;Password=x`, `{"token": "x"}`.
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
            // A whole text is looked at as one, since a `=` in JSON or in an address divides nothing.
            Some((name, value)) if is_name(name) => format!("{name}={}", value_of(name, value, 0)),
            _ => value_of("", argument, 0),
        });
    }
    masked
}

/// The variables `CODEX_…` and `RAYON_NUM_THREADS`, with secrets masked.
pub fn variables(all: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_ours = |name: &str| name.starts_with("CODEX_") || name == "RAYON_NUM_THREADS";
    all.iter().filter(|(name, _)| is_ours(name)).map(|(name, value)| (name.clone(), value_of(name, value, 0))).collect()
}

/// Whether the text before a `=` is a name and no other text with a `=` in it.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains("://") && !text.contains(|c: char| c.is_whitespace() || "{[\"':;,&?".contains(c))
}

fn value_of(name: &str, value: &str, depth: usize) -> String {
    let is_secret = !value.is_empty() && (names_a_secret(name) || looks_secret(value) || depth > MAX_DEPTH);
    if is_secret { MASK.to_owned() } else { text(value, depth) }
}

/// A value that is a secret whatever it is called.
fn looks_secret(value: &str) -> bool {
    let bare = value.trim_matches(['"', '\'']);
    let is_long = |prefix: &str| bare.strip_prefix(prefix).is_some_and(|rest| rest.len() >= LONG);
    // A signed token: three parts, of which the first begins as JSON does in Base64.
    let is_signed = bare.starts_with("eyJ") && bare.split('.').count() == 3 && bare.len() >= 2 * LONG;
    PREFIXES.iter().any(|prefix| bare.starts_with(prefix)) || LONG_PREFIXES.iter().any(|prefix| is_long(prefix)) || is_signed
}

/// A text with the secrets in it masked; one without is left as it is.
fn text(value: &str, depth: usize) -> String {
    if value.starts_with(['{', '['])
        && let Ok(mut json) = serde_json::from_str::<Value>(value)
    {
        return if mask_json(&mut json, depth) > 0 { json.to_string() } else { value.to_owned() };
    }
    if let Some((name, rest)) = value.split_once(':')
        && is_name(name)
        && names_a_secret(name)
        && !rest.trim().is_empty()
        && !rest.starts_with("//")
    {
        return format!("{name}: {MASK}");
    }
    let value = without_logins(value);
    let mut masked = String::new();
    let mut after_scheme = false;
    for piece in value.split_inclusive([' ', '\t', '\n', ';', '&', ',', '?']) {
        let word = piece.trim_end_matches([' ', '\t', '\n', ';', '&', ',', '?']);
        let end = &piece[word.len()..];
        // What follows `Bearer` in prose is a word; what follows it in a header is long or has a digit.
        if after_scheme && (word.len() >= LONG || word.bytes().any(|byte| byte.is_ascii_digit())) {
            masked.push_str(MASK);
        } else if let Some((name, inner)) = word.split_once('=')
            && is_name(name)
        {
            masked.push_str(&format!("{name}={}", value_of(name, inner, depth + 1)));
        } else if looks_secret(word) {
            masked.push_str(MASK);
        } else {
            masked.push_str(word);
        }
        if !word.is_empty() {
            after_scheme = ["bearer", "basic"].iter().any(|scheme| word.to_lowercase().ends_with(scheme));
        }
        masked.push_str(end);
    }
    masked
}

/// Masks the secrets in a JSON value; how many there were.
fn mask_json(json: &mut Value, depth: usize) -> usize {
    match json {
        Value::String(inner) => {
            let masked = value_of("", inner, depth + 1);
            let has_changed = masked != *inner;
            *inner = masked;
            usize::from(has_changed)
        }
        Value::Array(items) => items.iter_mut().map(|item| mask_json(item, depth)).sum(),
        Value::Object(map) => map.iter_mut().map(|(name, item)| mask_member(name, item, depth)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn mask_member(name: &str, item: &mut Value, depth: usize) -> usize {
    let is_empty = item.is_null() || item.as_str() == Some("");
    if !names_a_secret(name) || is_empty {
        return mask_json(item, depth);
    }
    *item = MASK.into();
    1
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is_secret = |idx: usize| {
        let is_of_data = matches!(words[idx], "token" | "key") && idx > 0 && OF_DATA.contains(&words[idx - 1]);
        !is_of_data && WORD_ENDS.iter().any(|end| words[idx].ends_with(end))
    };
    PARTS.iter().any(|part| name.contains(part)) || (0..words.len()).any(is_secret)
}

/// A text without the users and passwords of the addresses in it.
fn without_logins(value: &str) -> String {
    let mut rest = value;
    let mut masked = String::new();
    while let Some((before, after)) = rest.split_once("://") {
        let host_end = after.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(after.len());
        masked.push_str(before);
        masked.push_str("://");
        rest = match after[..host_end].rfind('@') {
            Some(at) => {
                masked.push_str(MASK);
                &after[at..]
            }
            None => after,
        };
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn secrets_inside_one_argument_are_masked() {
        let one = |argument: &str| command(&[argument.to_owned()]).remove(0);
        let long = "a1".repeat(12);
        let cases = [
            ("--env=API_KEY=abc", "--env=API_KEY=[masked]"),
            ("B=3 A_TOKEN=abc\nC_PWD=x", "B=3 A_TOKEN=[masked]\nC_PWD=[masked]"),
            ("passphrase=four words with spaces", "passphrase=[masked]"),
            ("Server=db;User=me;Password=hunter2;Port=5", "Server=db;User=me;Password=[masked];Port=5"),
            ("host=db password=hunter2 port=5", "host=db password=[masked] port=5"),
            (concat!("postgres://me:", "pw,x@host/db?password=y&n=3"), "postgres://[masked]@host/db?password=[masked]&n=3"),
            ("from https://a:b@c to https://d:e@f/g", "from https://[masked]@c to https://[masked]@f/g"),
            (concat!("Authorization: ", "Basic", " bWU6cHc="), "Authorization: [masked]"),
            ("X-Api-Key: abc", "X-Api-Key: [masked]"),
            ("header=Bearer abc123", "header=Bearer [masked]"),
            (r#"{"api_key": "abc", "n": [1, {"pwd": 5}]}"#, r#"{"api_key":"[masked]","n":[1,{"pwd":"[masked]"}]}"#),
            (r#"--config={"uri": "https://a:b@c"}"#, r#"--config={"uri":"https://[masked]@c"}"#),
        ];
        for (argument, expected) in cases {
            assert_eq!(one(argument), expected);
        }
        for prefix in ["ghu_", "AIza", "npm_", "-----BEGIN"] {
            assert_eq!(one(&format!("note={prefix}{long}")), "note=[masked]", "{prefix}");
        }
        assert_eq!(one(&format!("eyJ{long}.{long}.{long}")), MASK);
        assert!(!one(&format!("{}secret", "a=".repeat(100_000))).contains("secret"));
    }

    #[test]
    fn texts_that_only_resemble_secrets_stay_readable() {
        let long = ["bearer of good news", "the basic idea", "data.text_key=content", "tokenizer.pad_token=<pad>", "eval.stop_token=5"];
        let short = ["npm_config", "eyJ", "a=b=c", "prompt=Once upon a time, there was: a key", "https://host:80/a", "note: 5", "x=", "=y"];
        let json = [r#"{"n":  3, "text_key": "content"}"#, "[1,2", "{a=b}", "train.weights=[0.5, 0.5]", r#"{"token": ""}"#];
        for argument in long.into_iter().chain(short).chain(json) {
            assert_eq!(command(&[argument.to_owned()]), [argument]);
        }
    }

    proptest! {
        #[test]
        fn any_argument_is_masked_without_a_panic(argument in ".{0,80}") {
            prop_assert_eq!(command(&[argument]).len(), 1);
        }

        #[test]
        fn a_password_never_stays(secret in "[a-zA-Z0-9]{4,12}", key in "[a-z]{1,8}(_password|[.]token|-api-key)") {
            let secret = format!("Zq{secret}");
            for argument in [format!("{key}={secret}"), format!("--{key}={secret}"), format!("a=1;{key}={secret};b=2"), format!("{{\"{key}\": \"{secret}\"}}")] {
                let masked = command(&[argument]).remove(0);
                prop_assert!(!masked.contains(&secret), "{}", masked);
            }
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
