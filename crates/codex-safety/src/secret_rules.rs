//! Keys, tokens and passwords, by the shapes that those who issue them document.

use crate::check::entropy;
use crate::error::SafetyError;
use crate::rule::{Candidate, Category, PatternRule};

/// The rules for secrets.
#[expect(clippy::too_many_lines, reason = "a table of rules, not logic")]
pub fn rules() -> Result<Vec<PatternRule>, SafetyError> {
    // (id, description, keywords, pattern, check)
    type Row = (&'static str, &'static str, &'static [&'static str], &'static str, fn(&Candidate<'_>) -> bool);
    let rows: &[Row] = &[
        (
            "private-key",
            "PEM private key block",
            &["private key"],
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:(?:[^-]|-[^-])*-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|\s*(?:[A-Za-z0-9+/=\\]{16,}\s*)*)",
            any,
        ),
        ("aws-access-key", "AWS access key id", &["akia", "asia", "abia", "acca"], r"\b((?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})\b", random),
        (
            "aws-secret-key",
            "AWS secret access key",
            &["aws"],
            r#"(?i)aws[\w.-]{0,20}(?:secret|sk)[\w.-]{0,20}["']?\s{0,4}(?::=|=>|=|:)\s{0,4}["']?([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)"#,
            random,
        ),
        ("google-api-key", "Google API key", &["aiza"], r"\b(AIza[0-9A-Za-z_-]{35})(?:[^0-9A-Za-z_-]|$)", random),
        ("google-oauth-secret", "Google OAuth client secret", &["gocspx-"], r"\b(GOCSPX-[0-9A-Za-z_-]{28})", random),
        (
            "azure-storage-key",
            "Azure storage account key",
            &["accountkey", "sharedaccesskey"],
            r"(?i)(?:Account|SharedAccess)Key\s{0,2}=\s{0,2}([A-Za-z0-9+/]{43,86}={1,2})",
            random,
        ),
        ("azure-sas", "Azure shared access signature", &["sig="], r"[?&;]sig=([A-Za-z0-9%+/]{40,120}(?:%3D|=){1,2})", random),
        (
            "github-token",
            "GitHub token",
            &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
            r"\b(gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{60,255})",
            random,
        ),
        (
            "gitlab-token",
            "GitLab token",
            &["glpat-", "gldt-", "glrt-", "glptt-", "glcbt-"],
            r"\b(gl(?:pat|dt|rt|ptt|cbt)-[0-9A-Za-z_-]{20,64})",
            random,
        ),
        ("slack-token", "Slack token", &["xox", "xapp-"], r"\b(xox[abeoprs]-[0-9A-Za-z-]{10,250}|xapp-\d-[0-9A-Za-z-]{20,250})", random),
        (
            "slack-webhook",
            "Slack webhook address",
            &["hooks.slack.com"],
            r"(https://hooks\.slack\.com/(?:services|workflows|triggers)/[0-9A-Za-z/_-]{20,200})",
            any,
        ),
        (
            "stripe-key",
            "Stripe key",
            &["sk_live_", "rk_live_", "sk_test_", "rk_test_", "whsec_"],
            r"\b((?:sk|rk)_(?:live|test)_[0-9A-Za-z]{16,247}|whsec_[0-9A-Za-z+/=]{24,100})",
            random,
        ),
        ("anthropic-key", "Anthropic API key", &["sk-ant-"], r"\b(sk-ant-[0-9A-Za-z_-]{20,200})", random),
        (
            "openai-key",
            "OpenAI API key",
            &["sk-"],
            r"\b(sk-(?:proj|svcacct|admin|None)-[0-9A-Za-z_-]{20,250}|sk-[0-9A-Za-z]{32,64})",
            random,
        ),
        ("huggingface-token", "Hugging Face token", &["hf_", "api_org_"], r"\b((?:hf|api_org)_[A-Za-z0-9]{30,64})", random),
        (
            "npm-token",
            "npm token",
            &["npm_", "_authtoken"],
            r"\b(npm_[A-Za-z0-9]{36})\b|_authToken\s{0,2}=\s{0,2}([0-9A-Za-z_=-]{20,200})",
            random,
        ),
        ("pypi-token", "PyPI token", &["pypi-"], r"\b(pypi-[A-Za-z0-9_-]{50,300})", random),
        ("cargo-token", "crates.io token", &["cio"], r"\b(cio[A-Za-z0-9]{32})\b", random),
        ("sendgrid-key", "SendGrid key", &["sg."], r"\b(SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64})", random),
        ("mailgun-key", "Mailgun key", &["key-"], r"\b(key-[0-9a-f]{32})\b", random),
        ("twilio-key", "Twilio key or account id", &["sk", "ac"], r"\b((?:SK|AC)[0-9a-f]{32})\b", random),
        ("digitalocean-token", "DigitalOcean token", &["dop_v1_", "doo_v1_", "dor_v1_"], r"\b(do[opr]_v1_[a-f0-9]{64})\b", random),
        ("telegram-token", "Telegram bot token", &["aa"], r"(?:^|[^0-9A-Za-z])(\d{8,10}:AA[0-9A-Za-z_-]{33})(?:[^0-9A-Za-z_-]|$)", random),
        (
            "discord-token",
            "Discord bot token",
            &["discord", "bot "],
            r"\b([MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38})",
            random,
        ),
        ("shopify-token", "Shopify token", &["shpat_", "shpca_", "shppa_", "shpss_"], r"\b(shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32})\b", random),
        ("vault-token", "HashiCorp Vault token", &["hvs.", "hvb."], r"\b(hv[bs]\.[A-Za-z0-9_-]{24,250})", random),
        ("age-key", "age secret key", &["age-secret-key-"], r"(AGE-SECRET-KEY-1[0-9A-Z]{58})", random),
        ("jwt", "JSON web token", &["eyj"], r"\b(eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})", random),
        (
            "authorization-header",
            "credentials of an Authorization header",
            &["authorization", "bearer"],
            r#"(?i)\bauthorization["']?\s{0,4}[:=]\s{0,4}["']?(?:bearer|basic|token)\s+([A-Za-z0-9._~+/=-]{12,500})|\bbearer\s+([A-Za-z0-9._~+/=-]{20,500})"#,
            opaque,
        ),
        (
            "url-password",
            "password in a URL",
            &["://"],
            r#"[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s/:@"'<>]*:([^\s/@"'<>]{3,})@[^\s/@"'<>]"#,
            |candidate| literal(candidate.value),
        ),
    ];
    rows.iter()
        .map(|(id, description, keywords, pattern, accept)| {
            PatternRule::new(id, Category::Secret, description, keywords, pattern, *accept)?.with_tail(tail(id)).with_open(open(id))
        })
        .collect()
}

/// What may go on behind a rule's pattern: the characters its kind of token is made of.
fn tail(id: &str) -> fn(char) -> bool {
    match id {
        // These have an end of their own.
        "private-key" | "url-password" => |_| false,
        "slack-webhook" => |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/'),
        "authorization-header" => |c| c.is_ascii_alphanumeric() || "._~+/=-".contains(c),
        "npm-token" | "stripe-key" | "azure-sas" | "azure-storage-key" => |c| c.is_ascii_alphanumeric() || "_+/=-".contains(c),
        _ => |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'),
    }
}

/// What the rules whose matches may have white space in them begin with, as far as it goes to the end of a text. The others' end with it.
fn open(id: &str) -> Option<&'static str> {
    Some(match id {
        // From a whole first line on, all that follows may be in the block.
        "private-key" => r"-----BEGIN (?:[A-Z0-9]+ )*(?:$|PRIVATE KEY(?: BLOCK)?-----)",
        "aws-secret-key" => r#"(?i)aws[\w.-]{0,20}(?:secret|sk)[\w.-]{0,20}["']?\s{0,4}(?:(?::=|=>|=|:)\s{0,4})?$"#,
        "azure-storage-key" => r"(?i)(?:Account|SharedAccess)Key\s{0,2}(?:=\s{0,2})?$",
        "npm-token" => r"_authToken\s{0,2}(?:=\s{0,2})?$",
        "authorization-header" => r#"(?i)\bauthorization["']?\s{0,4}(?:[:=]\s{0,4}(?:["']?(?:bearer|basic|token)\s+)?)?$|\bbearer\s+$"#,
        _ => return None,
    })
}

fn any(_: &Candidate<'_>) -> bool {
    true
}

/// Not a documentation stand-in such as `AKIAXXXXXXXXXXXXXXXX`.
fn random(candidate: &Candidate<'_>) -> bool {
    entropy(candidate.value) >= 2.5 && !stand_in(candidate.value)
}

/// A value that someone has typed or generated, not a name or an expression.
pub(crate) fn literal(value: &str) -> bool {
    !value.contains(['$', '{', '}', '<', '>', '[', '%']) && !stand_in(value)
}

fn opaque(candidate: &Candidate<'_>) -> bool {
    let value = candidate.value;
    literal(value) && value.bytes().any(|b| b.is_ascii_digit()) && value.bytes().any(|b| b.is_ascii_alphabetic()) && entropy(value) >= 3.0
}

/// Whether a value only stands in for one, as in examples and templates.
fn stand_in(value: &str) -> bool {
    let lower = value.to_lowercase();
    // Each too long to be in a drawn value by chance, or of characters that none is drawn from.
    let anywhere = [
        "example",
        "placeholder",
        "changeme",
        "change_me",
        "change-me",
        "your_",
        "your-",
        "yourpass",
        "xxxxxx",
        "****",
        "....",
        "redacted",
        "notreal",
        "[secret",
        "insert",
        "replace",
        "<",
        "undefined",
        "password",
        "passwort",
        "secret_key",
        "foobar",
        "abcdef0123",
    ];
    // Every few thousandth long token has one of these inside, in some mixture of cases.
    let as_a_word = ["xxxx", "dummy", "todo", "fixme", "none", "null"];
    anywhere.iter().any(|word| lower.contains(word))
        || lower.split(|c: char| !c.is_alphanumeric()).any(|part| as_a_word.contains(&part))
        || lower.chars().collect::<std::collections::BTreeSet<_>>().len() <= 2
}
