//! No input makes the resolver panic, whatever it is.

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
