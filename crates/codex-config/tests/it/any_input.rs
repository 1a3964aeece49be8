//! No input makes the resolver panic, whatever it is.

use codex_config::{Assignment, Element, Setting, sweep};
use proptest::prelude::*;

use crate::Case;

/// Text that gets past the first line of a parser more often than random bytes do.
fn texts() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("seed"),
        Just("model"),
        Just("defaults"),
        Just("train.lora"),
        Just("[model]"),
        Just("[[data.paths]]"),
        Just("[\"model/tiny\"]"),
        Just("="),
        Just(": "),
        Just("\n"),
        Just("\n  "),
        Just("- "),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just("\""),
        Just("'''"),
        Just("&a"),
        Just("*a"),
        Just("<<"),
        Just("1e9"),
        Just("-0"),
        Just("nan"),
        Just("null"),
        Just("é"),
        Just("\u{feff}"),
        Just("#"),
        Just("..."),
        Just("!!binary"),
        Just("2024-01-01"),
        Just("rank"),
        Just("."),
    ];
    proptest::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_as_a_file(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for name in ["run.toml", "run.yaml"] {
            let case = Case::new().file(name, &bytes);
            let _unused = case.resolve();
        }
    }

    #[test]
    fn any_words_as_a_file(text in texts()) {
        for name in ["run.toml", "run.yaml"] {
            let case = Case::new().file(name, &text);
            if let Err(error) = case.resolve() {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn any_argument_and_variable(text in ".{0,60}", words in texts(), name in "[A-Za-z_]{0,20}") {
        for value in [&text, &words] {
            let _unused = Case::new().arg(value).resolve();
            let _unused = Case::new().arg(&format!("train.lora={value}")).arg(&format!("model={value}")).arg(&format!("name={value}")).resolve();
            let _unused = Case::new().env(&format!("CODEX_{name}"), value).env("CODEX_TRAIN__LORA", value).resolve();
        }
    }
}

/// An override that Hydra's table has, with some of its characters exchanged, doubled or taken out.
fn mutated() -> impl Strategy<Value = String> {
    let table: serde_json::Value = serde_json::from_str(include_str!("../../../../fixtures/codex-config/overrides/hydra.json")).unwrap();
    let cases: Vec<String> = table["cases"].as_array().unwrap().iter().map(|case| case["override"].as_str().unwrap().to_owned()).collect();
    let change = (
        0..40_usize,
        0..4_u8,
        prop_oneof![Just('='), Just('\''), Just('\\'), Just('('), Just(','), Just('{'), Just('$'), Just(' '), any::<char>()],
    );
    (proptest::sample::select(cases), proptest::collection::vec(change, 0..3)).prop_map(|(text, changes)| {
        let mut text: Vec<char> = text.chars().collect();
        for (at, kind, c) in changes {
            let at = at.min(text.len());
            match kind {
                0 if at < text.len() => drop(text.remove(at)),
                1 if at < text.len() => text[at] = c,
                2 if at < text.len() => text.insert(at, text[at]),
                _ => text.insert(at, c),
            }
        }
        text.into_iter().collect()
    })
}

/// Values of any depth.
fn elements() -> impl Strategy<Value = Element> {
    let text = prop_oneof![
        ".{0,12}",
        "[ a-z'\"\\\\,=:$(){}\\[\\]-]{0,8}",
        Just("null".to_owned()),
        Just("0x10".to_owned()),
        Just("1979-05-27".to_owned())
    ];
    let leaf = prop_oneof![
        Just(Element::Null),
        any::<bool>().prop_map(Element::Bool),
        any::<i64>().prop_map(Element::Int),
        any::<f64>().prop_map(Element::Float),
        text.clone().prop_map(Element::Text),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Element::List),
            proptest::collection::btree_map(text.clone(), inner, 0..4).prop_map(|map| Element::Dict(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_printed_is_read_as_the_same(text in prop_oneof![mutated(), "[+~]{0,2}[a-z.]{1,5}=.{0,30}", ".{0,40}"]) {
        if let Ok(assignment) = text.parse::<Assignment>() {
            let printed = assignment.to_string();
            let again = printed.parse::<Assignment>();
            prop_assert!(again.is_ok(), "{text:?} -> {printed:?}: {again:?}");
            let again = again.unwrap();
            // A NaN is not itself, its text is.
            prop_assert_eq!(again.to_string(), printed.clone());
            prop_assert!(again == assignment || printed.contains("nan"), "{:?} -> {:?}", text, printed);
        }
        let _unused = sweep::expand(&[text.clone(), text], 50);
    }

    #[test]
    fn any_value_survives_its_text(element in elements(), other in elements()) {
        let again: Assignment = format!("key={element}").parse().unwrap();
        prop_assert_eq!(again.to_string(), format!("key={element}"));
        if let Some(Setting::Value(read)) = &again.setting {
            prop_assert!(*read == element || element.to_string().contains("nan"), "{:?} is not {:?}", read, element);
        } else {
            prop_assert!(false, "{:?}", again);
        }
        let lists = sweep::expand(&[format!("key=choice({element},{other})")], 2).unwrap();
        prop_assert_eq!(lists, vec![vec![format!("key={element}")], vec![format!("key={other}")]]);
    }
}

#[test]
fn deep_and_wide_inputs_are_refused() {
    let deep = |open: &str, close: &str| format!("data.weights = {}1{}", open.repeat(5000), close.repeat(5000));
    for text in [deep("[", "]"), deep("{a=", "}"), format!("{}x = 1", "a.".repeat(5000)), format!("[{}x]", "a.".repeat(70))] {
        let message = Case::new().file("run.toml", &text).message();
        assert!(message.len() < 5000, "{} bytes", message.len());
    }
    let deep_yaml = format!("data:\n  weights: {}1{}", "{a: ".repeat(80), "}".repeat(80));
    assert!(Case::new().file("run.yaml", deep_yaml).resolve().is_err());
    assert!(Case::new().arg(&format!("{}x=1", "a.".repeat(5000))).resolve().is_err());
    assert!(Case::new().arg(&format!("data.weights={}1{}", "[".repeat(70), "]".repeat(70))).resolve().is_err());
    let wide = (0..10_001).map(|n| format!("data.weights.k{n} = 1")).collect::<Vec<_>>().join("\n");
    assert_eq!(Case::new().file("run.toml", wide).message(), "run.toml:1: more than 10000 keys");
    let garbage = "= = =\n".repeat(1000);
    assert_eq!(Case::new().file("run.toml", garbage).message().matches("this is not TOML").count(), 20);
}
