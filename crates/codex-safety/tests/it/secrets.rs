//! Secrets of any length and under any name.

use crate::{SCANNER, ids, left, piece_left};

#[test]
fn a_value_is_taken_to_its_end() {
    let long = |n: usize| -> String { "k3JxQ9mZ2vL8pR5wT7yB4nC6dF1gH0sAeU".chars().cycle().skip(n % 7).take(n).collect() };
    for n in [40, 190, 210, 300, 700, 5000] {
        let value = long(n);
        for text in [
            format!("api_key={value} rest"),
            format!("api_key = \"{value}\" rest"),
            format!("api_key = '{value}' rest"),
            format!("Authorization: Bearer {value} rest"),
            format!("Authorization: Bearer {} rest", value.replace("vL8", "+/.")),
            format!("gh{}_{value} rest", "p"),
            format!("github_{}_{value}{value} rest", "pat"),
            format!("gl{}-{value} rest", "pat"),
            format!("xo{}-{value} rest", "xb"),
            format!("sk-{value} rest"),
            format!("sk-{}-{value} rest", "proj"),
            format!("sk-{}-{value} rest", "ant"),
            format!("sk_{}_{value} rest", "live"),
            format!("hf{}{value} rest", "_"),
            format!("py{}-{value}{value} rest", "pi"),
            format!("hv{}.{value} rest", "s"),
            format!("_auth{}={value} rest", "Token"),
            format!("https://hooks.{}/services/{value} rest", "slack.com"),
            format!("postgres://app:{value}@db rest"),
            format!("postgres://{value}:{value}@db rest"),
        ] {
            let left = left(&text);
            assert!(left.ends_with(" rest") || left.ends_with("@db rest") || left.ends_with("\" rest"), "{left}");
            let value = if text.contains(&format!("//{value}:")) { format!("{value}@db") } else { value.clone() };
            let kept = if value.ends_with("@db") { left.replacen(&long(n), "", 1) } else { left.clone() };
            assert_eq!(piece_left(&kept, value.trim_end_matches("@db")), None, "{n}: {left}");
        }
    }
}

#[test]
fn an_assigned_value_is_taken_from_its_first_character() {
    assert_eq!(left("API_KEY=abK3JxQ9mZ2vL8pR5wT7yB4n"), "API_KEY=[SECRET:password-in-code]");
    assert_eq!(left("secret = password = \"S3cr3t-Pa55\""), "secret = password = \"[SECRET:password-in-code]\"");
    assert_eq!(left("token = b\"S3cr3t-Pa55\""), "token = b\"[SECRET:password-in-code]\"");
    assert_eq!(left(r#"{"text": "password = \"S3cr3t-Pa55\""}"#), r#"{"text": "password = \"[SECRET:password-in-code]\""}"#);
    assert_eq!(left(r#""{\"password\": \"S3cr3t-Pa55\"}""#), r#""{\"password\": \"[SECRET:password-in-code]\"}""#);
    assert_eq!(left("password = \"S3cr3t-Pa55word"), "password = \"[SECRET:password-in-code]");
    assert_eq!(left("API_KEY=k3JxQ9mZ2vL8pR5wT7yB4nC6 (see below)"), "API_KEY=[SECRET:password-in-code] (see below)");
}

#[test]
fn every_name_of_a_secret_is_tried() {
    for name in [
        "password",
        "passwd",
        "passphrase",
        "pwd",
        "secret",
        "credential",
        "credentials",
        "token",
        "api?key",
        "access?key",
        "auth?key",
        "private?key",
        "encryption?key",
        "signing?key",
    ] {
        for joint in ["_", "-", ""] {
            let name = name.replace('?', joint);
            for name in [name.clone(), name.to_uppercase(), format!("db_{name}"), format!("{name}_prod")] {
                assert_eq!(ids(&format!("{name} = \"S3cr3t-Pa55\"")), ["password-in-code"], "{name}");
            }
        }
    }
}

/// Texts that make a rule look again from every place of its last match.
#[test]
fn repeated_beginnings_are_scanned_once() {
    for piece in [
        "token=",
        "token=\"",
        "glpat-xxxx-",
        "a@",
        "a://b:",
        "1 ",
        "4111 ",
        "+1 2",
        "1.",
        "eyJ.",
        "bearer bearer-",
        "sk-",
        "ignore all ",
        "a b ",
    ] {
        let text = piece.repeat((256 << 10) / piece.len());
        assert!(SCANNER.redact(&text).text.len() <= text.len() * 8, "{piece}");
    }
}
