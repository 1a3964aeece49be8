//! Personal data beside other numbers, and what only looks like it.

use crate::{gone, ids, left};

#[test]
fn cards_are_found_among_other_digits() {
    for text in [
        "4111 1111 1111 1111 12/27",
        "4111111111111111 123",
        "order 12 4111111111111111",
        "4111-1111-1111-1111 12",
        "12 4111 1111 1111 1111 123",
        "2 3782 822463 10005 4",
        "415-555-2671 4111 1111 1111 1111",
        "4111111111111111 4111111111111111",
    ] {
        gone(text, &["4111 1111", "41111111", "1111-1111", "822463 10005"]);
        assert!(ids(text).contains(&"card".to_owned()), "{text}");
    }
    // Digits in groups of five, a table of numbers, a long identifier.
    for text in
        ["14159 26535 89793 23846 26433 83279", "812 45 1203 77 4111 1113 22 77", "id 41111111111111111111", "1 4111 1111 1111 1112 3"]
    {
        assert_eq!(ids(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn an_account_number_ends_where_its_country_says() {
    assert_eq!(left("BE68 5390 0754 7034 EUR"), "[IBAN] EUR");
    assert_eq!(left("DE89370400440532013000 1200 EUR"), "[IBAN] 1200 EUR");
    assert_eq!(left("GB82 WEST 1234 5698 7654 32 AND 5 MORE"), "[IBAN] AND 5 MORE");
    assert_eq!(left("DE89370400440532013000EUR"), "[IBAN]EUR");
    assert_eq!(left("NO93 8601 1117 947"), "[IBAN]");
    for text in ["DE89 3704 0044 0532 0130 01 EUR", "BE68 5390 0754 703", "XX68 5390 0754 7034", "ROOM BE68 5390"] {
        assert_eq!(left(text), text);
    }
}

#[test]
fn phone_numbers_stand_beside_each_other() {
    assert_eq!(left("415-555-2671 212-555-0199"), "[PHONE] [PHONE]");
    assert_eq!(left("(415) 555-2671 2 times"), "[PHONE] 2 times");
    for text in [
        "dial(415-555-2671)",
        "(415-555-2671)",
        "(+49 30 901820)",
        "dial(+49 30 901820) + 415-555-2671",
        "tel:+49 30 901820",
        "phone=415-555-2671",
    ] {
        gone(text, &["415-555-2671", "+49 30 901820"]);
    }
    gone("+49 30 901820 415-555-2671 +1 212 555 0199 7", &["+49 30 901820", "415-555-2671", "212 555 0199"]);
    gone("Tel. 030 901 820 415-555-2671", &["030 901 820", "415-555-2671"]);
}

#[test]
fn only_a_version_word_directly_before_makes_a_version() {
    for text in
        ["server 81.2.69.142", "build host 81.2.69.142", "driver 81.2.69.142", "release notes at 81.2.69.142", "section of 81.2.69.142"]
    {
        assert_eq!(ids(text), ["ipv4"], "{text}");
    }
    for text in [
        "version 81.2.69.142",
        "Version: 81.2.69.142",
        "driver_version=\"81.2.69.142\"",
        "driverVersion: 81.2.69.142",
        "ver. 81.2.69.142",
        "v. 81.2.69.142",
        "v81.2.69.142",
        "release 81.2.69.142",
        "build 81.2.69.142",
        "§ 81.2.69.142",
        "Section 81.2.69.142",
    ] {
        assert_eq!(ids(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn addresses_are_told_from_files_packages_and_urls() {
    for text in [
        "ana@firma.rs",
        "ana@firma.com.py",
        "ana@file.zip",
        "https://x.org/u?email=ana@corp.com",
        "https://x.org/ana@corp.com/x",
        "https://x.org/#ana@corp.com",
        "mailto:ana@corp.com",
        "ana@163.com",
    ] {
        assert_eq!(ids(text), ["email"], "{text}");
        gone(text, &["ana@firma", "ana@corp", "ana@file", "ana@163.com"]);
    }
    for text in [
        "icon@2x.png",
        "left-pad@1.3.0",
        "left-pad@1.3.0-beta.next",
        "icon@2x.rs",
        "https://ana@build.example.org/x",
        "ssh://git@forge.example.org/x.git",
        "git@forge.example.org:x.git",
    ] {
        assert_eq!(ids(text), Vec::<String>::new(), "{text}");
    }
    assert_eq!(ids("https://ana:tr0ub4dor-3@corp.com/x"), ["url-password"]);
}
