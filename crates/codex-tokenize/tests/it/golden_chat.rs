//! Conversations as transformers renders them: `xtask/parity/chat_templates.py` made the file and can compare other templates.

use std::collections::BTreeMap;

use codex_core::Timestamp;
use codex_tokenize::chat::{Chat, ChatTemplate, ChatValue, builtin_names};
use serde_json::Value;

use crate::golden_ids::golden;

/// 2024-07-26, noon.
const DATE: Timestamp = Timestamp(1_721_995_200_000);

fn said(text: &str, spans: &[std::ops::Range<usize>]) -> Vec<String> {
    spans.iter().map(|span| text[span.clone()].to_owned()).collect()
}

/// The file with the order of its keys, as it matters what a template prints.
fn conversations() -> (Value, BTreeMap<String, Vec<ChatValue>>, ChatValue) {
    let bytes = golden("chat.json");
    let ordered: ChatValue = serde_json::from_slice(&bytes).unwrap();
    let all: BTreeMap<String, Vec<ChatValue>> = match ordered.get("conversations") {
        Some(ChatValue::Map(all)) => all.iter().map(|(name, list)| (name.clone(), elements(list))).collect(),
        _ => BTreeMap::new(),
    };
    (serde_json::from_slice(&bytes).unwrap(), all, ordered.get("tool").unwrap().clone())
}

fn elements(list: &ChatValue) -> Vec<ChatValue> {
    if let ChatValue::List(list) = list { list.clone() } else { Vec::new() }
}

#[test]
fn conversations_are_rendered_as_transformers_does() {
    let (file, conversations, tool) = conversations();
    let tokens: BTreeMap<String, String> = serde_json::from_value(file["tokens"].clone()).unwrap();
    let tools = [tool];
    let (mut equal, mut spans) = (0, 0);
    for row in file["rows"].as_array().unwrap() {
        let name = row["template"].as_str().unwrap();
        let template = ChatTemplate::from_source(file["templates"][name].as_str().unwrap(), tokens.clone()).unwrap();
        let chat = Chat {
            messages: &conversations[row["conversation"].as_str().unwrap()],
            tools: row["tools"].as_bool().unwrap().then_some(&tools[..]),
            add_generation_prompt: row["prompt"].as_bool().unwrap(),
            date: Some(DATE),
            variables: row["variables"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), ChatValue::from(value))).collect(),
            ..Chat::default()
        };
        let place = format!("{name} {}", row["conversation"]);
        let Some(text) = row["text"].as_str() else {
            assert!(template.render_text(&chat).is_err(), "{place}");
            continue;
        };
        assert_eq!(template.render_text(&chat).unwrap(), text, "{place}");
        equal += 1;
        match row["said"].as_array() {
            Some(expected) => {
                let rendered = template.render(&chat).unwrap();
                assert_eq!(rendered.text, text, "{place}");
                assert_eq!(
                    said(&rendered.text, &rendered.assistant),
                    expected.iter().map(|s| s.as_str().unwrap()).collect::<Vec<_>>(),
                    "{place}"
                );
                spans += 1;
            }
            None => assert!(template.render(&chat).unwrap_err().to_string().contains("message"), "{place}"),
        }
    }
    assert!(equal >= 190 && spans >= 150, "{equal} {spans}");
}

#[test]
fn templates_that_come_with_the_crate_mark_what_the_assistant_says() {
    let messages = [
        ChatValue::message("system", "Be brief."),
        ChatValue::message("user", "Hi"),
        ChatValue::message("assistant", "Hello."),
        ChatValue::message("user", "Bye"),
        ChatValue::message("assistant", "So long."),
    ];
    assert_eq!(builtin_names(), ["chatml", "llama3", "mistral", "plain", "zephyr"]);
    let expected = [
        (
            "chatml",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nSo long.<|im_end|>\n",
            "<|im_end|>",
        ),
        (
            "llama3",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nSo long.<|eot_id|>",
            "<|eot_id|>",
        ),
        ("mistral", "<s>[INST] Be brief.\n\nHi [/INST] Hello.</s>[INST] Bye [/INST] So long.</s>", "</s>"),
        ("plain", "System: Be brief.\n\nUser: Hi\n\nAssistant: Hello.\n\nUser: Bye\n\nAssistant: So long.\n\n", ""),
        (
            "zephyr",
            "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello.</s>\n<|user|>\nBye</s>\n<|assistant|>\nSo long.</s>\n",
            "</s>",
        ),
    ];
    for (name, text, end) in expected {
        let template = ChatTemplate::builtin(name).unwrap();
        assert!(template.marks_generation());
        let chat = Chat { messages: &messages, ..Chat::default() };
        let rendered = template.render(&chat).unwrap();
        assert_eq!(rendered.text, text, "{name}");
        let space = if ["mistral", "plain"].contains(&name) { " " } else { "" };
        assert_eq!(said(text, &rendered.assistant), [format!("{space}Hello.{end}"), format!("{space}So long.{end}")], "{name}");
        // The text up to an answer is what the model is given before it.
        let prompt = template.render_text(&Chat { messages: &messages[..4], add_generation_prompt: true, ..Chat::default() }).unwrap();
        assert_eq!(text[..rendered.assistant[1].start], prompt, "{name}");
    }
    let other = ChatTemplate::builtin("zephyr").unwrap().with_token("eos_token", "<end>");
    assert!(other.render_text(&Chat { messages: &messages[..2], ..Chat::default() }).unwrap().ends_with("Hi<end>\n"));
    assert!(ChatTemplate::builtin("chatlm").unwrap_err().to_string().contains("unknown chat template `chatlm`; known: chatml"));
}

#[test]
fn the_marks_and_the_comparison_find_the_same() {
    let messages = [
        ChatValue::message("user", "Hi"),
        ChatValue::message("assistant", "Hello\u{FDD0}0."),
        ChatValue::message("user", "?"),
        ChatValue::message("assistant", "!"),
    ];
    let source = "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}{{ m.content }};{% endgeneration %}{% else %}{{ m.content }};{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
    let plain = source.replace("{% generation %}", "").replace("{% endgeneration %}", "");
    let render = |source: &str| {
        ChatTemplate::from_source(source, BTreeMap::new()).unwrap().render(&Chat { messages: &messages, ..Chat::default() }).unwrap()
    };
    assert_eq!(render(source), render(&plain));
    assert_eq!(render(source).assistant, [20..31, 50..52]);
}

#[test]
fn a_template_that_prints_earlier_messages_differently_is_an_error_that_names_the_message() {
    let template = |source: &str| ChatTemplate::from_source(source, BTreeMap::new()).unwrap();
    let messages = [
        ChatValue::message("user", "a"),
        ChatValue::message("assistant", "b"),
        ChatValue::message("user", "c"),
        ChatValue::message("assistant", "d"),
    ];
    let chat = Chat { messages: &messages, ..Chat::default() };
    let error = template("{{ messages|length }}{% for m in messages %}{{ m.content }}{% endfor %}").render(&chat).unwrap_err();
    assert_eq!(
        error.to_string(),
        "what the assistant says in message 1 cannot be found: the conversation before it is no beginning of the whole text"
    );
    let error =
        template("{% for m in messages %}{{ m.content if loop.last or m.role == 'user' else '-' }}{% endfor %}").render(&chat).unwrap_err();
    assert_eq!(
        error.to_string(),
        "what the assistant says in message 1 cannot be found: the conversation up to it is no beginning of the whole text"
    );
    let error = template("{% if messages|length < 2 %}{{ raise_exception('too short') }}{% endif %}").render(&chat).unwrap_err();
    assert_eq!(error.to_string(), "the chat template refuses the conversation (for what the assistant says in message 1): too short");
}

#[test]
fn templates_come_from_a_folder_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| codex_core::files::write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
    let messages = [ChatValue::message("user", "x")];
    let chat = Chat { messages: &messages, ..Chat::default() };
    let with_tools = Chat { tools: Some(&messages), ..chat.clone() };
    assert!(ChatTemplate::load(dir.path()).unwrap_err().to_string().starts_with("cannot open"));
    write(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<s>"}, "chat_template": [{"name": "default", "template": "{{ bos_token }}d"}, {"name": "tool_use", "template": "t"}, {"name": "rag", "template": "r"}]}"#,
    );
    let template = ChatTemplate::load(dir.path()).unwrap();
    assert_eq!((template.render_text(&chat).unwrap().as_str(), template.render_text(&with_tools).unwrap().as_str()), ("<s>d", "t"));
    assert_eq!(template.clone().named("rag").unwrap().render_text(&with_tools).unwrap(), "r");
    assert_eq!(template.named("x").unwrap_err().to_string(), "unknown chat template `x`; known: default, rag, tool_use");
    write("chat_template.jinja", "{{ bos_token }}file\n");
    assert_eq!(ChatTemplate::load(dir.path()).unwrap().render_text(&chat).unwrap(), "<s>file");
}
