//! Arithmetic that tells a real number or key from one that only looks like it.

/// The Luhn check of payment cards (ISO/IEC 7812-1) over the digits of a text.
pub fn luhn(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits.iter().rev().enumerate().map(|(i, &d)| if i % 2 == 1 { if d > 4 { 2 * d - 9 } else { 2 * d } } else { d }).sum();
    !digits.is_empty() && sum.is_multiple_of(10)
}

/// Whether the digits have a card network's prefix and its length.
pub fn card_prefix(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let lead = |n: usize| digits.get(..n).and_then(|lead| lead.parse::<u32>().ok()).unwrap_or(0);
    match digits.len() {
        13 | 19 => lead(1) == 4 || (digits.len() == 19 && matches!(lead(2), 62 | 65)),
        14 => matches!(lead(2), 36 | 38) || (300..=305).contains(&lead(3)),
        15 => matches!(lead(2), 34 | 37),
        16 => {
            lead(1) == 4
                || (51..=55).contains(&lead(2))
                || (2221..=2720).contains(&lead(4))
                || lead(4) == 6011
                || lead(2) == 65
                || (644..=649).contains(&lead(3))
                || lead(2) == 62
                || (3528..=3589).contains(&lead(4))
        }
        _ => false,
    }
}

/// The check digits of an IBAN (ISO 13616): the rearranged number is 1 modulo 97.
pub fn iban(text: &str) -> bool {
    let compact: Vec<char> = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    if !(15..=34).contains(&compact.len()) {
        return false;
    }
    let rearranged = compact[4..].iter().chain(&compact[..4]);
    let mut rest = 0_u32;
    for c in rearranged {
        let Some(value) = c.to_digit(36) else { return false };
        rest = if value < 10 { rest * 10 + value } else { rest * 100 + value } % 97;
    }
    rest == 1
}

/// How many letters and digits a country's IBANs have (SWIFT IBAN Registry).
pub fn iban_length(country: &str) -> Option<usize> {
    let of_length: &[(usize, &[&str])] = &[
        (15, &["NO"]),
        (16, &["BE"]),
        (18, &["DK", "FI", "FK", "FO", "GL", "NL", "SD"]),
        (19, &["MK", "SI"]),
        (20, &["AT", "BA", "EE", "KZ", "LT", "LU", "MN", "XK"]),
        (21, &["CH", "HR", "LI", "LV"]),
        (22, &["BG", "BH", "CR", "DE", "GB", "GE", "IE", "ME", "RS", "VA"]),
        (23, &["AE", "GI", "IL", "IQ", "OM", "SO", "TL"]),
        (24, &["AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN", "VG"]),
        (25, &["LY", "PT", "ST"]),
        (26, &["IS", "TR"]),
        (27, &["BI", "DJ", "FR", "GR", "IT", "MC", "MR", "SM"]),
        (28, &["AL", "AZ", "BY", "CY", "DO", "GT", "HN", "HU", "LB", "NI", "PL", "SV"]),
        (29, &["BR", "EG", "PS", "QA", "UA"]),
        (30, &["JO", "KW", "MU", "YE"]),
        (31, &["MT", "SC"]),
        (32, &["LC"]),
        (33, &["RU"]),
    ];
    of_length.iter().find(|(_, countries)| countries.contains(&country)).map(|(length, _)| *length)
}

/// Shannon entropy of the characters, in bits per character.
pub fn entropy(text: &str) -> f64 {
    let mut counts = std::collections::BTreeMap::<char, f64>::new();
    for c in text.chars() {
        *counts.entry(c).or_default() += 1.0;
    }
    let n: f64 = counts.values().sum();
    -counts.values().map(|count| count / n * (count / n).log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_and_accounts_are_checked() {
        assert!(luhn("4111 1111 1111 1111") && card_prefix("4111111111111111"));
        assert!(!luhn("4111 1111 1111 1112") && !luhn(""));
        assert!(card_prefix("378282246310005") && card_prefix("30569309025904") && card_prefix("2223003122003222"));
        assert!(!card_prefix("1234567812345670") && !card_prefix("12"));
        assert!(iban("DE89 3704 0044 0532 0130 00") && iban("GB82WEST12345698765432"));
        assert!(!iban("DE89 3704 0044 0532 0130 01") && !iban("DE89"));
        assert_eq!((iban_length("DE"), iban_length("NO"), iban_length("RU"), iban_length("XX")), (Some(22), Some(15), Some(33), None));
    }

    #[test]
    fn entropy_tells_repetition_from_chance() {
        assert!(entropy("aaaaaaaa") < 0.01);
        assert!((entropy("abcd") - 2.0).abs() < 1e-9);
        assert!(entropy("k3Jx9QmZ2vL8") > 3.5);
    }
}
