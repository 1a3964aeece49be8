//! `${…}` in the values of every layer.

use insta::assert_snapshot;

use crate::Case;

fn toml(text: &str) -> Case {
    Case::new().file("run.toml", text)
}

#[test]
fn a_whole_value_keeps_its_type() {
    let case = toml(
        "seed = \"${train.max_steps}\"\nname = \"${train.note}\"\ntrain.note = \"x\"\ntrain.betas = \"${data.pair}\"\n[data]\npaths = [\"${name}\", \"b\"]\n",
    );
    // `data.pair` is no key.
    assert!(case.message().contains("there is no key `data.pair`"));
    let case = toml(
        "seed = \"${train.max_steps}\"\ntrain.note = \"x\"\nname = \"${train.note}\"\ndata.paths = [\"${name}\", \"b\"]\nmodel.tied = \"${flag.x}\"\n",
    );
    assert!(case.message().contains("there is no key `flag.x`"));
    let case = toml("seed = \"${train.max_steps}\"\ntrain.note = \"x\"\nname = \"${train.note}\"\ndata.paths = [\"${name}\", \"b\"]\n");
    let value = case.value();
    assert_eq!((value.seed, value.name.as_str()), (200, "x"));
    assert_eq!(value.data.paths[0].to_str(), Some("x"));
    assert!(case.resolve().unwrap().source("seed").to_string().ends_with("run.toml:1"), "the place that holds the reference");
    assert_eq!(toml("train.note = \"${train.early_stop}\"").value().train.note, None);
    assert_eq!(toml("seed = \"${train.betas.0}\"\ntrain.betas = [3, 4]").value().seed, 3);
}

#[test]
fn within_a_text() {
    let case = toml("name = \"${model.d_model}-${train.learning_rate}/${model.tied}${seed}\"").arg("seed=7");
    assert_eq!(case.value().name, "32-0.001/true7");
    assert_eq!(Case::new().arg("name=run-${seed}").value().name, "run-1");
    assert_eq!(Case::new().env("CODEX_NAME", "run-${seed}").value().name, "run-1");
    assert_eq!(Case::new().file("run.yaml", "name: run-${seed}").value().name, "run-1");
    assert_eq!(toml("name = \"${train.note}\"").arg("train.note=1.10").value().name, "1.10", "as it was typed");
}

#[test]
fn variables_are_handed_in() {
    let case = toml("name = \"${env:WHO}\"\nseed = \"${env:SEED}\"\ntrain.note = \"${oc.env:NONE, some text}\"\ntrain.early_stop = \"${env:STOP,null}\"")
        .variable("WHO", "12")
        .variable("SEED", "34");
    let value = case.value();
    assert_eq!((value.name.as_str(), value.seed, value.train.note.as_deref(), value.train.early_stop), ("12", 34, Some("some text"), None));
    // What a variable holds is no reference.
    assert_eq!(toml("name = \"${env:WHO}\"").variable("WHO", "${seed}").value().name, "${seed}");
}

#[test]
fn a_variable_that_names_a_secret_is_not_taken() {
    let secret = ["hun", "ter2"].concat();
    for name in ["HF_TOKEN", "API_KEY", "DB_PASSWORD", "aws_secret"] {
        for text in [format!("name = \"${{env:{name}}}\""), format!("name = \"${{env:{name},none}}\"")] {
            let shown = toml(&text).variable(name, &secret).resolve().unwrap_err().to_string();
            assert!(shown.contains(&format!("`{name}` names a secret, and a run folder keeps its configuration")), "{shown}");
            assert!(!shown.contains(&secret), "{shown}");
        }
    }
}

#[test]
fn an_escaped_dollar_is_text() {
    let resolved = toml("name = '\\${x} {{ y }} $z'\ntrain.note = '${name}!'").resolve().unwrap();
    assert_eq!(resolved.value.name, "${x} {{ y }} $z");
    assert_eq!(resolved.value.train.note.as_deref(), Some("${x} {{ y }} $z!"));
    let again = Case::new().file("again.toml", resolved.to_toml()).value();
    assert_eq!(again, resolved.value);
}

#[test]
fn only_what_counts_is_resolved() {
    // The file's value is replaced, so that its variable may be absent.
    assert_eq!(toml("name = \"${env:ABSENT}\"").arg("name=x").value().name, "x");
    assert_eq!(toml("train.lora = \"${env:ABSENT}\"").arg("train.lora={rank:1,alpha:1}").value().train.lora.unwrap().rank, 1);
}

#[test]
fn a_reference_to_a_table_copies_it() {
    let case = toml("train.lora = { rank = \"${seed}\", alpha = 2 }\ndata.weights = \"${data.span}\"");
    let value = case.value();
    assert_eq!((value.train.lora.unwrap().rank, value.data.weights["to"].to_bits()), (1, 10_f64.to_bits()));
}

#[test]
fn what_cannot_be_resolved() {
    assert_snapshot!(toml("name = \"a ${model.d_modell}\"\ntrain.note = \"${env:ABSENT}\"\n").message(), @r#"
    run.toml:1: `name`: there is no key `model.d_modell`
        1 | name = "a ${model.d_modell}"
          |           ^^^^^^^^^^^^^^^^
      hint: did you mean `${model.d_model}`?
    run.toml:2: `train.note`: the environment has no `ABSENT`
        2 | train.note = "${env:ABSENT}"
          |                     ^^^^^^
      hint: set it, or give a default: `${env:ABSENT,default}`
    "#);
    assert_snapshot!(toml("name = \"${train.note}\"\n[train]\nnote = \"${name}\"\n").message(), @r#"
    run.toml:3: `train.note`: a value refers to itself: `name` -> `train.note` -> `name`
        3 | note = "${name}"
          |         ^^^^^^
      hint: give one of them a value
    "#);
    assert_snapshot!(toml("name = \"${name}\"").message(), @r#"
    run.toml:1: `name`: a value refers to itself: `name` -> `name`
        1 | name = "${name}"
          |         ^^^^^^
      hint: give one of them a value
    "#);
    assert_snapshot!(toml("name = \"${\"\ntrain.note = \"{{ x }} ${now:%Y}\"").message(), @r#"
    run.toml:1: `name`: `${` is no reference to a key or a variable
        1 | name = "${"
          |         ^^
      hint: write `${model.d_model}` or `${env:NAME,default}`; to have `${` as text write `\${` (`'\${'` in TOML)
    run.toml:2: `train.note`: `${now:%Y}` is no reference to a key or a variable
        2 | train.note = "{{ x }} ${now:%Y}"
          |                       ^^^^^^^^^
      hint: write `${model.d_model}` or `${env:NAME,default}`; to have `${` as text write `\${` (`'\${'` in TOML)
    "#);
    assert_snapshot!(toml("name = \"x ${train.betas}\"").message(), @r#"
    run.toml:1: `name`: `train.betas` is a list, which cannot stand within a text
        1 | name = "x ${train.betas}"
          |             ^^^^^^^^^^^
      hint: refer to one value, or to the whole without text around it
    "#);
    assert_snapshot!(toml("train.max_steps = \"${name}\"").message(), @r#"
    run.toml:1: `train.max_steps`: expected an integer of at least 0, found string `run`
        1 | train.max_steps = "${name}"
          |                   ^^^^^^^^^
    "#);
    assert_snapshot!(Case::new().arg("name=${nme}").message(), @r#"
    argument `name=${nme}`: `name`: there is no key `nme`
          | name=${nme}
          |      ^^^^^
      hint: did you mean `${name}`?
    "#);
}

#[test]
fn what_grows_without_end_is_refused() {
    let mut text = "a0 = \"xxxxxxxxxx\"\n".to_owned();
    for n in 1..40 {
        let before = n - 1;
        text.push_str(&format!("a{n} = \"${{data.texts.a{before}}}${{data.texts.a{before}}}\"\n"));
    }
    let message = Case::new().file("run.toml", format!("train.note = \"${{data.texts.a39}}\"\n[data.texts]\n{text}")).message();
    assert!(message.contains("comes to more than 1048576 bytes"), "{message}");
    let chain = (1..80).map(|n| format!("a{n} = \"${{data.texts.a{}}}\"", n - 1)).collect::<Vec<_>>().join("\n");
    let message = Case::new().file("run.toml", format!("[data.texts]\na0 = \"${{data.texts.a79}}\"\n{chain}")).message();
    assert!(message.contains("in a row") || message.contains("refers to itself"), "{message}");
}
