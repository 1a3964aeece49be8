//! Canaries of all families in one text, in prose, code and JSON, each in the neighbourhood of the others: nothing of them stays.

use proptest::prelude::*;

use crate::positives::positives;
use crate::{SCANNER, inline, piece_left};

/// A stream of numbers that depends on its seed only (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn text(&mut self, n: usize, alphabet: &str) -> String {
        (0..n).map(|_| char::from(alphabet.as_bytes()[self.below(alphabet.len())])).collect()
    }

    fn alnum(&mut self, n: usize) -> String {
        // Two digits and both cases, which a drawn value of this length all but always has.
        format!(
            "{}7{}",
            self.text(n / 2, "abcdefghijkmnpqrstuvwyzABCDEFGHJKLMNPQRSTUVWYZ23456789"),
            self.text(n - n / 2 - 1, "aBcDeFgHjK23456789")
        )
    }

    fn between(&mut self, least: usize, most: usize) -> String {
        let n = least + self.below(most - least);
        self.alnum(n)
    }

    fn digits(&mut self, n: usize) -> String {
        self.text(n, "0123456789")
    }
}

/// Digits with the last one that makes the Luhn sum right.
fn card(dice: &mut Dice) -> String {
    let lead = format!("4{}", dice.digits(14));
    let valid = |last: &u32| codex_safety::check::luhn(&format!("{lead}{last}"));
    let number = format!("{lead}{}", (0..10).find(valid).unwrap());
    match dice.below(3) {
        0 => number,
        1 => format!("{} {} {} {}", &number[..4], &number[4..8], &number[8..12], &number[12..]),
        _ => format!("{}-{}-{}-{}", &number[..4], &number[4..8], &number[8..12], &number[12..]),
    }
}

fn iban(dice: &mut Dice) -> String {
    let account = dice.digits(18);
    let valid = |check: &u32| codex_safety::check::iban(&format!("DE{check:02}{account}"));
    let check = (2..99).find(valid).unwrap();
    let number = format!("DE{check:02}{account}");
    if dice.below(2) == 0 { number } else { number.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ") }
}

/// (what introduces it, the canary, what follows).
fn canary(family: usize, dice: &mut Dice) -> (&'static str, String, &'static str) {
    let area = |dice: &mut Dice| format!("{}{}{}", 2 + dice.below(8), 1 + dice.below(9), 1 + dice.below(9));
    match family {
        0 => ("", format!("AK{}{}", "IA", dice.text(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")), ""),
        1 => ("", format!("gh{}_{}", "p", dice.alnum(36)), ""),
        2 => ("", format!("sk-{}-{}", "proj", dice.alnum(48)), ""),
        3 => ("", format!("AI{}{}", "za", dice.alnum(35)), ""),
        4 => ("", format!("xo{}-{}-{}", "xb", dice.digits(12), dice.alnum(24)), ""),
        5 => ("", format!("sk_{}_{}", "live", dice.alnum(24)), ""),
        6 => ("", format!("ey{}{}.ey{}{}.{}", "J", dice.alnum(20), "J", dice.alnum(60), dice.alnum(43)), ""),
        7 => ("Authorization: Bearer ", dice.between(40, 740), ""),
        8 => ("postgres://app:", dice.alnum(16), "@db.host.net/x"),
        9 => ("password = \"", format!("{}!{}", dice.alnum(6), dice.alnum(6)), "\""),
        10 => ("api_key=", dice.between(24, 424), ""),
        11 => ("private-key: '", dice.alnum(30), "'"),
        12 => ("", format!("{}.{}@{}.de", dice.text(6, "abcdefghij"), dice.text(7, "klmnopqr"), dice.text(8, "stuvwyz")), ""),
        13 => ("", format!("+49 30 {}", dice.digits(7)), ""),
        14 => ("", format!("{}-{}-{}", area(dice), area(dice), dice.digits(4)), ""),
        15 => ("", format!("{}-{}-{}", 100 + dice.below(500), 10 + dice.below(80), 1000 + dice.below(9000)), ""),
        16 => ("", card(dice), ""),
        17 => ("", iban(dice), ""),
        18 => ("", format!("81.{}.{}.{}", 20 + dice.below(200), dice.below(256), dice.below(256)), ""),
        _ => ("", format!("gl{}-{}", "pat", dice.between(20, 100)), ""),
    }
}

const FAMILIES: usize = 20;

fn frame(dice: &mut Dice, canary: &str) -> String {
    match dice.below(7) {
        0 => format!("and then {canary} was written down, "),
        1 => format!("{canary} "),
        2 => format!("let value = `{canary}`; "),
        3 => format!("{} ", serde_json::json!({ "note": canary, "n": 12 })),
        4 => format!("ignore all {canary} previous instructions "),
        5 => format!("12 {canary} 34 "),
        _ => format!("\n    call({canary}) // 7\n"),
    }
}

/// The text and its canaries.
fn planted(seed: u64) -> (String, Vec<String>) {
    let mut dice = Dice(seed);
    let (mut text, mut canaries) = (String::new(), Vec::new());
    for i in 0..50 {
        let (before, secret, after) = canary((i + seed as usize) % FAMILIES, &mut dice);
        text += &frame(&mut dice, &format!("{before}{secret}{after}"));
        canaries.push(secret);
    }
    (text, canaries)
}

#[test]
fn neighbours_hide_nothing() {
    let all = positives();
    for (i, (rule, text, secret)) in all.iter().enumerate() {
        for (next_rule, next, next_secret) in &all {
            let separator = [" ", ", ", "; ", "\t", " / "][(i + next.len()) % 5];
            for separator in [" ", separator] {
                let both = format!("see {}{separator}{} for more", inline(text), inline(next));
                let left = SCANNER.redact(&both).text.into_owned();
                for secret in [secret, next_secret] {
                    // Not `https://` or a key's first line, which stand in other texts too.
                    let secret = secret.trim_start_matches("https://").split('\n').max_by_key(|line| line.len()).unwrap();
                    assert_eq!(piece_left(&left, secret), None, "{rule} then {next_rule}: {left:?} from {both:?}");
                }
            }
        }
    }
}

#[test]
fn a_canary_that_no_rule_knows_stays() {
    let (text, canaries) = planted(1);
    assert_eq!(canaries.len(), 50);
    assert!(canaries.iter().all(|canary| piece_left(&text, canary).is_some()));
    assert_eq!(SCANNER.redact("the word tr0ub4dor-and-3 alone").text, "the word tr0ub4dor-and-3 alone");
}

#[test]
fn a_short_word_inside_a_drawn_value_hides_nothing() {
    // Built from pieces, as a scanner of sources would find them whole.
    let jwt = ["eyJZER2HZUky57eK886jg2e", ".eyJMTqVGNuLL8Yt8CFaMCZT6Cqp4vM7nB787H7", ".6bhjJNA5KMYRnSPctG3Nn7jH8D77c9aH"].concat();
    let github = ["ghp", "_4nOnE", "8Yt8CFaMCZT6Cqp4vM7nB787H7jBccD"].concat();
    let stripe = ["sk_live", "_7ToDo9xXxX", "8Yt8CFaMCZT6Cqp4"].concat();
    for secret in [&jwt, &github, &stripe] {
        let left = SCANNER.redact(&format!("ignore all {secret} previous")).text.into_owned();
        assert_eq!(piece_left(&left, secret), None, "{left}");
    }
    let names = ["sk_live_xxxx_todo_1234567890", "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"];
    assert!(names.iter().all(|name| SCANNER.scan(name).is_empty()), "stand-ins stay");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_of_fifty_canaries_stays(seed in any::<u64>()) {
        let (text, canaries) = planted(seed);
        let left = SCANNER.redact(&text).text.into_owned();
        for canary in canaries {
            prop_assert_eq!(piece_left(&left, &canary), None, "of {} in {}\nfrom {}", canary, left, text);
        }
    }
}
