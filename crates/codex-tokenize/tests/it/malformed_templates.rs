//! A chat template or a conversation that cannot be used is a named error in bounded time and memory, whatever the template says.

use std::collections::BTreeMap;

use codex_core::{ExitClass, Failure};
use codex_tokenize::TokenizeError;
use codex_tokenize::chat::{Chat, ChatTemplate, ChatValue};
use proptest::prelude::*;

/// What rendering a conversation of two messages with this source gives.
fn render(source: &str) -> Result<String, TokenizeError> {
    let messages = [ChatValue::message("user", "Hi"), ChatValue::message("assistant", "Hello.")];
    ChatTemplate::from_source(source, BTreeMap::new())?.render_text(&Chat { messages: &messages, ..Chat::default() })
}

fn refused(source: &str) -> TokenizeError {
    let error = render(source).unwrap_err();
    assert!(matches!(error.exit_class(), ExitClass::Data | ExitClass::Usage), "{error}");
    assert!(error.hint().is_some() && error.to_string().len() < 1200, "{error}");
    error
}

#[test]
fn a_template_that_is_wrong_is_an_error_with_its_line() {
    for (source, told) in [
        ("\n{% if %}", "the chat template line 2: syntax error: "),
        ("{% for m in messages %}", "the chat template line 1: syntax error: unexpected end of input"),
        ("{{ 'a", "the chat template line 1: syntax error: unexpected end of string"),
        ("{% frob %}", "the chat template line 1: syntax error: unknown statement frob"),
        ("\n\n{{ messages | frob }}", "the chat template line 3: unknown filter: filter frob is unknown"),
        ("{{ messages is frob }}", "the chat template line 1: unknown test: test frob is unknown"),
        ("{{ frob() }}", "the chat template line 1: unknown function: frob is unknown"),
        ("{{ 'a'.frob() }}", "the chat template line 1: unknown method: string has no method named frob"),
        ("{{ nothing.at.all }}", "the chat template line 1: undefined value"),
        ("{{ nothing['x'] }}", "the chat template line 1: undefined value"),
        ("{{ 'a' + 1 }}", "the chat template line 1: invalid operation: `+` cannot be applied to string and number"),
        ("{{ 1 % 0 }}", "the chat template line 1: invalid operation: a division by zero"),
        ("{{ 1 in 2 }}", "the chat template line 1: invalid operation: `in` cannot be applied to number and number"),
        ("{{ messages[0:1:0] }}", "the chat template line 1: invalid operation: a slice cannot have a step of 0"),
        ("{{ range(0, 1, 0) }}", "the chat template line 1: invalid operation: a range cannot have a step of 0"),
        ("{{ undefined_thing | tojson }}", "the chat template line 1: invalid operation: tojson: a value of kind undefined has no JSON"),
        ("{{ 1 | tojson(wrong=1) }}", "the chat template line 1: too many arguments: unknown keyword argument 'wrong'"),
        ("{% include 'tokenizer.json' %}", "the chat template line 1: a block, another template or a recursive loop"),
        ("{% extends 'x' %}", "the chat template line 1: a block, another template or a recursive loop"),
        ("{% generation %}a", "the chat template line 1: syntax error: "),
        ("{% endgeneration %}", "the chat template line 1: syntax error: "),
        (
            "{% generation %}{% generation %}a{% endgeneration %}{% endgeneration %}",
            "the chat template: the marks of `{% generation %}` are cut or nested",
        ),
        (
            "{% set x %}{% generation %}a{% endgeneration %}{% endset %}{{ x[:3] }}",
            "the chat template: the marks of `{% generation %}` are cut or nested",
        ),
        ("{{ raise_exception('no system role') }}", "the chat template refuses the conversation: no system role"),
        ("{{ strftime_now('%Y') }}", "the chat template prints the date, and none was given"),
    ] {
        let error = refused(source).to_string();
        assert!(error.starts_with(told), "{source}: {error}");
    }
}

#[test]
fn a_template_that_runs_on_is_stopped() {
    let loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}";
    for (source, told) in [
        (loops, "takes too many steps"),
        ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "recursion limit exceeded"),
        ("{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(25) }}", "takes too many steps"),
        ("{{ range(999999999) | list }}", "makes too much text"),
        ("{{ range(0, 9223372036854775807, 1) }}", "makes too much text"),
        ("{{ 'a'.count('') }}{% for a in range(999999) %}x{% endfor %}", "makes too much text"),
    ] {
        let error = refused(source).to_string();
        assert!(error.contains(told), "{source}: {error}");
    }
}

#[test]
fn a_template_that_makes_much_of_little_is_stopped() {
    let doubled = |step: &str| format!("{{% set n = namespace(x='aaaaaaaaaaaaaaaa') %}}{{% for i in range(60) %}}{step}{{% endfor %}}");
    let set = |value: &str| doubled(&format!("{{% set n.x = {value} %}}"));
    for source in [
        set("n.x + n.x"),
        set("n.x ~ n.x"),
        set("n.x * 16"),
        set("16 * n.x"),
        set("n.x | replace('a', 'aaaa')"),
        set("n.x.replace('a', 'aaaa')"),
        set("[n.x, n.x] | join(n.x)"),
        set("n.x.join([n.x, n.x])"),
        set("'%s%s' | format(n.x, n.x)"),
        set("'{}{}'.format(n.x, n.x)"),
        set("('\n' ~ n.x) | indent(n.x | length)"),
        set("[n.x, n.x] | tojson"),
        set("[n.x, n.x] | string"),
        set("n.x | escape | replace('a', '&&')"),
        set("[n.x, n.x] | map('upper') | join"),
        doubled("{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}"),
        doubled("{% set y %}{% filter upper %}{{ n.x }}{{ n.x }}{% endfilter %}{% endset %}{% set n.x = y %}"),
        "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}".to_owned() + &set("m(n.x)"),
        "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}".to_owned(),
        "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x * 16 %}{% endfor %}".to_owned(),
        "{% set n = namespace(x=[]) %}{% for i in range(99999) %}{% set n.x = n.x + [range(99999)] %}{% endfor %}".to_owned(),
        "{% set x = 'a' * 1000 %}{% for i in range(99999) %}{{ x }}{% endfor %}".to_owned(),
        format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "a".repeat(1000)),
        format!("{{% set x %}}{{% for i in range(99999) %}}{}{{% endfor %}}{{% endset %}}", "a".repeat(1000)),
        "{% set x = 'a' * 400000 %}{% for i in range(99999) %}{% if x == x %}{% endif %}{% endfor %}".to_owned(),
        "{% set x = 'a' * 400000 %}{% for i in range(99999) %}{% if 'b' in x %}{% endif %}{% endfor %}".to_owned(),
        "{% set x = 'a' * 400000 %}{% for i in range(99999) %}{% set y = x[1:] %}{% endfor %}".to_owned(),
        "{% set x = 'a' * 400000 %}{% for i in range(99999) %}{% set y = x[-1] %}{% endfor %}".to_owned(),
        "{% set x = 'a' * 400000 %}{% for i in range(99999) %}{% set y = x.upper() %}{% endfor %}".to_owned(),
        "{% set x = 'a' * 400000 %}{% for i in range(99999) %}{% set y = x | trim %}{% endfor %}".to_owned(),
        "{% set x = 'a' * 400000 %}{% for i in range(99999) %}{% set y = x is eq x %}{% endfor %}".to_owned(),
    ] {
        let error = refused(&source).to_string();
        assert_eq!(error, "the chat template makes too much text", "{source:.200}");
    }
}

#[test]
fn a_template_that_nests_values_or_itself_is_refused() {
    let within = |step: &str| format!("{{% set n = namespace(x=1) %}}{{% for i in range(99999) %}}{{% set n.x = {step} %}}{{% endfor %}}");
    for source in [
        within("[n.x]"),
        within("{'a': n.x}"),
        within("dict(a=n.x)"),
        within("namespace(a=n.x)"),
        "{% set n = namespace() %}{% set n.a = n %}{{ n }}".to_owned(),
    ] {
        let error = refused(&source).to_string();
        assert!(error.contains("nests values too deeply") || error.contains("nests too deeply"), "{source}: {error}");
    }
    for (source, told) in [
        ("{% for i in range(9) %}{% macro m() %}{% endmacro %}{% endfor %}".to_owned(), "a macro or call block within a loop or a macro"),
        (format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)), "more than 400 operators in one tag"),
        (format!("{{{{ 1{} }}}}", " + 1".repeat(50_000)), "more than 400 operators in one tag"),
        (format!("{{{{ x{} }}}}", "|e".repeat(50_000)), "more than 400 operators in one tag"),
        (format!("{{{{ x{} }}}}", ".e".repeat(50_000)), "more than 400 operators in one tag"),
        (format!("{}{}", "{% if x %}".repeat(5000), "{% endif %}".repeat(5000)), "recursion limit"),
        (format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(9000)), "more than 256 `elif`"),
        ("{{ 'a' * 99999999 }}".to_owned(), "constants repeated to more than 1048576 bytes"),
        ("{{ [1] * 99999999 }}".to_owned(), "constants repeated to more than 1048576 bytes"),
        ("x".repeat(300_000), "300000 bytes, more than 262144"),
        ("{{ f(*messages) }}".to_owned(), "arguments from a list"),
        ("{% if 1 < 2 < messages %}{% endif %}".to_owned(), "a chain of comparisons"),
        ("{{ '%99999d' | format(1) }}".to_owned(), "a width of more than three digits"),
        ("{{ '{:99999}'.format(1) }}".to_owned(), "a width of more than three digits"),
        ("{{ '{:{}}'.format(1, 99999) }}".to_owned(), "or one that is given as a value"),
        ("{{ 1 | tojson(indent=99999999) }}".to_owned(), "expected an indent of at most 64"),
    ] {
        let error = refused(&source).to_string();
        assert!(error.contains(told), "{source:.100}: {error}");
    }
}

#[test]
fn what_is_no_template_or_no_conversation_is_refused() {
    for (json, told) in [
        ("", "`tokenizer_config.json` line 1 column 0: not the JSON of a tokenizer configuration"),
        ("{}", "`tokenizer_config.json`: `chat_template`: expected a text or a list of named ones, found none"),
        (r#"{"chat_template": 3}"#, "`tokenizer_config.json`: `chat_template`: expected a text or a list of named ones, found a number"),
        (r#"{"chat_template": null}"#, "`tokenizer_config.json`: `chat_template`: expected a text or a list of named ones, found none"),
        (
            r#"{"chat_template": [{"name": "default"}]}"#,
            "`tokenizer_config.json`: `chat_template[0].template`: expected a text, found none",
        ),
        (r#"{"chat_template": ["x"]}"#, "`tokenizer_config.json`: `chat_template[0].name`: expected a text, found none"),
        (r#"{"chat_template": "{% if %}"}"#, "the chat template line 1: syntax error: "),
    ] {
        let error = ChatTemplate::from_tokenizer_config(json).unwrap_err();
        assert!(error.to_string().starts_with(told), "{error}");
        assert!(error.hint().is_some());
    }
    let template = ChatTemplate::builtin("chatml").unwrap();
    let one = |message: &str| {
        let messages = [serde_json::from_str::<ChatValue>(message).unwrap()];
        template.render(&Chat { messages: &messages, ..Chat::default() }).map(|rendered| rendered.text)
    };
    for (message, told) in [
        ("3", "message 0: expected an object with a `role`, found a number"),
        (r#"{"content": "x"}"#, "message 0: expected a `role` that is a text, found no `role`"),
        (r#"{"role": ["user"]}"#, "message 0: expected a `role` that is a text, found a list"),
        (r#"{"role": "user"}"#, "the chat template line 8: invalid operation: `+` cannot be applied to undefined and string"),
        (
            r#"{"role": "user", "content": [{"type": "text"}]}"#,
            "the chat template line 8: invalid operation: `+` cannot be applied to sequence and string",
        ),
    ] {
        let error = one(message).unwrap_err();
        assert_eq!(error.to_string(), told);
        assert_eq!(error.exit_class(), ExitClass::Data);
    }
    let many = vec![ChatValue::message("user", "x"); 4097];
    let error = template.render(&Chat { messages: &many, ..Chat::default() }).unwrap_err();
    assert_eq!(error.to_string(), "message 4096: expected the end of the conversation, found another message");
    assert_eq!(template.render(&Chat::default()).unwrap().text, "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_source_is_rendered_or_refused(source in any::<String>()) {
        drop(render(&source));
    }

    #[test]
    fn any_pieces_of_a_template_are_rendered_or_refused(pieces in prop::collection::vec(prop::sample::select(vec![
        "{%", "%}", "{{", "}}", "-", "for m in messages", "endfor", "if", "else", "endif", "set x =", "m", "messages", "x", ".content", "['role']", "[1:]", "+", "~",
        "*", "3", "'a'", "|", "tojson", "trim", "list", "(", ")", "generation", "endgeneration", "macro f(a)", "endmacro", "f(1)", "namespace(a=1)", "\n", "text", "is",
        "defined", "not", "in", "{#", "#}", "range(5)", "loop.index", ",", "'", "raise_exception('x')", "[", "]", "{", "}", ":", "\u{FDD0}0\u{FDD1}",
    ]), 0..30)) {
        drop(render(&pieces.join(" ")));
    }
}
