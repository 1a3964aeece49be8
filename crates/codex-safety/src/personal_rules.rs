//! E-mail addresses, phone numbers, national numbers and public network addresses.
//!
//! Private, loopback and documentation network addresses belong to nobody and are not reported. Dates, versions, ISBNs and long identifiers are
//! told apart by what stands around them.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::error::SafetyError;
use crate::rule::{Candidate, Category, PatternRule};

/// The rules for personal data.
pub fn rules() -> Result<Vec<PatternRule>, SafetyError> {
    type Row = (&'static str, &'static str, &'static [&'static str], &'static str, fn(&Candidate<'_>) -> bool);
    let rows: &[Row] = &[
        (
            "email",
            "e-mail address",
            &["@"],
            r"[A-Za-z0-9][A-Za-z0-9._%+'-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}",
            email,
        ),
        ("ssn", "US social security number", &["-", "ssn", "social security"], r"\d{3}-\d{2}-\d{4}", ssn),
        (
            "ssn-spaced",
            "US social security number, named",
            &["ssn", "social security"],
            r"(?i)(?:ssn|social security(?: (?:number|no\.?))?)\W{0,4}(?:is\W{0,2})?(\d{3} ?\d{2} ?\d{4})\b",
            ssn,
        ),
        ("phone-international", "phone number with country code", &["+"], r"\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,6}", phone),
        (
            "phone-national",
            "phone number in the form of North America",
            &[],
            r"\(?[2-9]\d{2}\)?[ .-]{1,2}[2-9]\d{2}[ .-]\d{4}",
            phone_national,
        ),
        (
            "phone-named",
            "number that is called a phone number",
            &["tel", "phone", "fax", "mobile", "cell", "call", "handy", "mobil"],
            r"(?i)\b(?:tel(?:ephone|efon)?|phone|fax|mobile?|cell|call|handy)\b\.?(?: (?:no|number|nr)\.?)?\s{0,2}[:#]?\s{0,2}(?:me at |us at |is )?(\(?0\d{1,5}\)?(?:[ /.-]{0,3}\d{2,8}){1,5})",
            phone,
        ),
        ("ipv4", "public IPv4 address", &["."], r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", ipv4),
        ("ipv6", "public IPv6 address", &[":"], r"[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){2,7}", ipv6),
    ];
    rows.iter()
        .map(|(id, description, keywords, pattern, accept)| {
            let rule = PatternRule::new(id, Category::PersonalData, description, keywords, pattern, *accept)?.with_open(open(id))?;
            Ok(if id.starts_with("phone") { rule.shortening() } else { rule })
        })
        .collect()
}

/// What the rules whose matches may have white space in them begin with, as far as it goes to the end of a text. The others' end with it.
fn open(id: &str) -> Option<&'static str> {
    Some(match id {
        "ssn-spaced" => {
            r"(?i)(?:social |(?:ssn|social security(?: (?:number|no\.?))?)\W{0,4}(?:is\W{0,2})?(?:\d{3} ?(?:\d{2} ?(?:\d{4})?)?)?)$"
        }
        "phone-international" => r"\+[1-9][\d .()-]*$",
        "phone-national" => r"[(\d][\d .()-]*$",
        "phone-named" => {
            r"(?i)\b(?:tel(?:ephone|efon)?|phone|fax|mobile?|cell|call|handy)\b\.?(?: (?:no|number|nr)\.?)?\s{0,2}[:#]?\s{0,2}(?:(?:me |us )(?:at )?|is )?(?:\(?0[\d /.()-]*)?$"
        }
        _ => return None,
    })
}

/// Whether neither side touches a character that would make the match part of something longer.
fn alone(candidate: &Candidate<'_>, before: &[char], after: &[char]) -> bool {
    let joins = |c: char, also: &[char]| c.is_alphanumeric() || c == '_' || also.contains(&c);
    !candidate.before.chars().next_back().is_some_and(|c| joins(c, before))
        && !candidate.after.chars().next().is_some_and(|c| joins(c, after))
}

/// Whether a sign and a digit go on directly behind the match.
fn goes_on(candidate: &Candidate<'_>, signs: &[char]) -> bool {
    let mut after = candidate.after.chars();
    after.next().is_some_and(|c| signs.contains(&c)) && after.next().is_some_and(|c| c.is_ascii_digit())
}

fn digits(text: &str) -> usize {
    text.bytes().filter(u8::is_ascii_digit).count()
}

fn email(candidate: &Candidate<'_>) -> bool {
    let (local, domain) = candidate.value.split_once('@').unwrap_or_default();
    // `git@host:path` names a repository.
    let repository = local == "git" && candidate.after.starts_with([':', '/']);
    !repository && !is_file(domain) && !in_userinfo(candidate.before) && !local.ends_with('.') && !local.contains("..")
}

/// Whether what stands behind an `@` is the end of a file's or a package's name: `icon@2x.png`, `left-pad@1.3.0-beta.next`.
fn is_file(domain: &str) -> bool {
    let last = domain.rsplit('.').next().unwrap_or_default().to_lowercase();
    let number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    let version = domain.split('.').take(2).all(number);
    let scaled = domain.starts_with(|c: char| c.is_ascii_digit());
    match last.as_str() {
        "png" | "jpg" | "jpeg" | "gif" | "svg" | "webp" | "tgz" | "js" | "ts" | "css" | "json" | "service" | "local" | "internal" => true,
        // Endings that are top-level domains too.
        "rs" | "py" | "zip" => scaled,
        _ => version,
    }
}

/// Whether a URL's user and password end here, which no `/`, `?` or `#` stands before; a password is for another rule.
fn in_userinfo(before: &str) -> bool {
    let authority = before.rsplit_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| !authority.contains(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c)))
}

fn ssn(candidate: &Candidate<'_>) -> bool {
    let plain: String = candidate.value.chars().filter(char::is_ascii_digit).collect();
    if plain.len() != 9 || !alone(candidate, &['-', '.', '/'], &['-', '/']) || goes_on(candidate, &['.']) {
        return false;
    }
    let (area, group, serial) = (&plain[..3], &plain[3..5], &plain[5..]);
    area != "000" && area != "666" && !area.starts_with('9') && group != "00" && serial != "0000"
}

/// Area codes that end in two zeros are not given out, but for the toll-free and premium ones.
fn phone_national(candidate: &Candidate<'_>) -> bool {
    let area: String = candidate.value.chars().filter(char::is_ascii_digit).take(3).collect();
    phone(candidate) && (!area.ends_with("00") || matches!(area.as_str(), "800" | "900"))
}

fn phone(candidate: &Candidate<'_>) -> bool {
    let n = digits(candidate.value);
    let opened = candidate.value.matches('(').count();
    let closed = candidate.value.matches(')').count();
    (8..=15).contains(&n)
        && opened == closed
        && alone(candidate, &['-', '.', '+', '/', '#', '$'], &['-', '/', '%'])
        && !goes_on(candidate, &['.', ':'])
}

/// Whether a word for a version stands directly before a number, as in `version = "1.2.3.4"`.
fn is_version(before: &str) -> bool {
    let before = before.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '=' | '"' | '\'' | '.'));
    let lower = before.to_ascii_lowercase();
    let words = ["version", "versions", "release", "releases", "ver", "v", "build", "rev", "revision", "section", "sections", "\u{a7}"];
    words.iter().any(|word| {
        let Some(start) = lower.strip_suffix(word).map(str::len) else { return false };
        // `driver` is no `ver`, but `driverVersion` is a version.
        let hump = before[start..].starts_with(char::is_uppercase) && before[..start].ends_with(char::is_lowercase);
        hump || !before[..start].ends_with(char::is_alphanumeric)
    })
}

fn ipv4(candidate: &Candidate<'_>) -> bool {
    let Ok(address) = candidate.value.parse::<Ipv4Addr>() else { return false };
    let [a, b, ..] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let nobodys =
        address.is_private() || address.is_loopback() || address.is_link_local() || address.is_documentation() || address.is_broadcast();
    let reserved = a == 0 || a >= 224 || shared || (a == 198 && (b == 18 || b == 19)) || address.octets().iter().all(|&octet| octet < 10);
    // Masks such as 255.255.0.0 fall under `a >= 224`; four one-digit numbers are nearly always a version.
    !is_version(candidate.before) && !nobodys && !reserved && alone(candidate, &['.', '-'], &['-']) && !goes_on(candidate, &['.'])
}

fn ipv6(candidate: &Candidate<'_>) -> bool {
    let Ok(address) = candidate.value.parse::<Ipv6Addr>() else { return false };
    let [first, second, ..] = address.segments();
    let public = (first & 0xe000) == 0x2000;
    let documentation = first == 0x2001 && second == 0xdb8 || first == 0x3fff;
    public && !documentation && alone(candidate, &[':'], &[':'])
}
