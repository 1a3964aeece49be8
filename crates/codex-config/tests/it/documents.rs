//! The schema for editors, the reference of keys, and the comparison of two configurations.

use codex_config::{diff, reference_markdown, schema_of};
use insta::assert_snapshot;
use serde_json::json;

use crate::{Case, TestConfig, shown};

fn schema() -> serde_json::Value {
    schema_of::<TestConfig>("https://example.invalid/test.json", "Test")
}

#[test]
fn the_schema_says_what_a_file_may_hold() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!((&schema["$id"], &schema["title"]), (&json!("https://example.invalid/test.json"), &json!("Test")));
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["train"].get("additionalProperties"), None, "the type itself denies nothing here");
    let model = &schema["properties"]["model"];
    assert_eq!(model["properties"]["d_model"]["default"], 64);
    assert_eq!(model["properties"]["dropout"]["default"], json!(0.1), "not the digits of a wider float");
    assert_eq!(model["properties"]["d_model"]["minimum"], 0);
    assert!(model["properties"]["d_model"]["description"].as_str().unwrap().starts_with("Width of a token's vector."));
    assert_eq!(schema["properties"]["train"]["properties"]["early_stop"]["default"], json!(null));
    let lora = &schema["properties"]["train"]["properties"]["lora"];
    assert_eq!(lora["required"], json!(["rank", "alpha"]), "what no default fills in");
    assert_eq!(schema.get("required"), None);
    assert_eq!(schema["properties"]["defaults"]["type"], "array");
    let mut keys: Vec<&String> = schema.as_object().unwrap().keys().collect();
    let found = keys.clone();
    keys.sort();
    assert_eq!(found, keys);
}

/// What `xtask/interop/config_schema.py` tries with real validators.
#[test]
fn the_committed_schema_is_that_of_the_test_types() {
    let committed = include_str!("../../../../fixtures/codex-config/schema/schema.json");
    assert_eq!(serde_json::from_str::<serde_json::Value>(committed).unwrap(), schema(), "{:#}", schema());
    for (name, text) in [
        ("good.toml", include_str!("../../../../fixtures/codex-config/schema/good.toml")),
        ("bad.toml", include_str!("../../../../fixtures/codex-config/schema/bad.toml")),
    ] {
        assert_eq!(Case::new().file(name, text).resolve().is_ok(), name == "good.toml", "{name}");
    }
}

#[test]
fn the_reference_has_a_section_per_table() {
    assert_snapshot!(reference_markdown(&schema()), @r#"
    # Test

    A run.

    | key | type | default | meaning |
    | --- | --- | --- | --- |
    | `defaults` | list of groups | `[]` | The groups that this text takes, as `model/tiny` or `{ model = "tiny" }`; `_self_` is the place of its own values. |
    | `name` | string | `"run"` | The run's name. |
    | `seed` | integer, at least 0 | `1` | Seed of everything random. |

    ## `data`

    | key | type | default | meaning |
    | --- | --- | --- | --- |
    | `data.paths` | list of: string | `[]` |  |
    | `data.weights` | table of any keys: number | `{}` |  |

    ## `data.span`

    Two values that are only right together.

    | key | type | default | meaning |
    | --- | --- | --- | --- |
    | `data.span.from` | integer, at least 0 | `0` |  |
    | `data.span.to` | integer, at least 0 | `10` |  |

    ## `model`

    The network.

    | key | type | default | meaning |
    | --- | --- | --- | --- |
    | `model.d_model` | integer, at least 0 | `64` | Width of a token's vector. A multiple of `n_heads`. |
    | `model.dropout` | number | `0.1` |  |
    | `model.n_heads` | integer, at least 0 | `4` |  |
    | `model.tied` | `true` or `false` | `true` |  |

    ## `train`

    | key | type | default | meaning |
    | --- | --- | --- | --- |
    | `train.betas` | list of 2: number | `[0.9, 0.95]` |  |
    | `train.early_stop` | integer, at least 0, or unset | unset |  |
    | `train.learning_rate` | number | `0.001` |  |
    | `train.lora` | table, or unset | unset | Low-rank \| adapters. |
    | `train.max_steps` | integer, at least 0 | `100` |  |
    | `train.note` | string, or unset | unset |  |
    | `train.schedule` | one of `linear`, `constant`, `cosine` | `"cosine"` |  |

    ## `train.lora`

    Low-rank | adapters.

    | key | type | default | meaning |
    | --- | --- | --- | --- |
    | `train.lora.alpha` | number | required |  |
    | `train.lora.rank` | integer, at least 0 | required |  |
    | `train.lora.targets` | list of: string | `[]` |  |
    "#);
}

#[test]
fn two_configurations_differ_by_their_values() {
    let before = Case::new().file("run.toml", "seed = 2\nname = \"x\"\ndata.weights.a = 1");
    let first = before.resolve().unwrap();
    let case = Case::new().file("run.toml", "name = \"x\"\ntrain.note = \"n\"").arg("model.d_model=64").arg("train.max_steps=200");
    let second = case.resolve().unwrap();
    let found = diff(&first, &second);
    assert!(!found.same_digest);
    let told: Vec<String> = found.differences.iter().map(ToString::to_string).collect();
    assert_snapshot!(shown(&shown(&told.join("\n"), before.folder.path()), case.folder.path()), @r#"
    data.weights: no such key -> {} (default)
    data.weights.a: 1.0 (run.toml:3) -> no such key
    model.d_model: 32 (compiled-in `model/tiny`:2) -> 64 (argument `model.d_model=64`)
    seed: 2 (run.toml:1) -> 1 (default)
    train.note: unset (default) -> "n" (run.toml:2)
    "#);
    let same = diff(&first, &first.clone());
    assert!(same.same_digest && same.differences.is_empty());
    // The same value from another place is no difference.
    let from_argument = Case::new().arg("seed=1").resolve().unwrap();
    let from_default = Case::new().resolve().unwrap();
    assert!(diff(&from_argument, &from_default).same_digest && diff(&from_argument, &from_default).differences.is_empty());
}
