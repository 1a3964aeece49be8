//! Prompts and chats: what becomes of them in the cache, which tokens are trained, what is refused and what the windows are.

use codex_core::{Digest, ExitClass, Failure, files};
use codex_data::{
    Content, DataConfig, DataError, DocumentRange, OnBadRow, RowKind, RowView, Split, TokenCache, TokenSplit, TrainOn, WindowLoader,
    open_sources, train_texts, view_rows,
};
use codex_tokenize::Tokenizer;

use crate::{Place, content};

const PROMPT: &str = "{\"prompt\":\"ab\",\"completion\":\"cd\"}\n";
const CHAT: &str = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]}\n";

/// A document's tokens as text, its end as `.`, trained stretches in brackets.
fn shown(place: &Place, split: &TokenSplit, idx: u64) -> String {
    let record = split.document(idx).unwrap().unwrap();
    let len = (record.end - record.start) as usize;
    let ids = split.tokens(record.start, len).unwrap();
    let trained = split.trained(record.start, len).unwrap().unwrap_or_else(|| vec![1; len]);
    let (mut out, mut before) = (String::new(), 0);
    for (id, trained) in ids.into_iter().zip(trained) {
        if trained != before {
            out.push(if trained == 1 { '[' } else { ']' });
        }
        before = trained;
        out.push_str(&if id == 0 { ".".to_owned() } else { place.tokenizer.decode(&[id]).unwrap() });
    }
    if before == 1 { out + "]" } else { out }
}

fn all_shown(place: &Place, cache: &TokenCache) -> Vec<String> {
    let split = cache.split(Split::Train);
    (0..split.n_documents()).map(|idx| shown(place, split, idx)).collect()
}

/// A place with these rows and its configuration.
fn place(rows: &str) -> (Place, DataConfig) {
    let place = Place::new();
    place.write("a.jsonl", rows);
    let config = DataConfig { chat_template: "plain".to_owned(), ..place.config(&["a.jsonl"]) };
    (place, config)
}

#[test]
fn each_row_trains_what_is_to_be_said() {
    let (place, config) = place(&[PROMPT, CHAT, "{\"text\":\"efg\"}\n"].concat());
    let cache = place.prepare(&config).unwrap();
    assert_eq!(all_shown(&place, &cache), ["ab[cd.]", "User: a\n\nAssistant:[ b.]", "[efg.]"]);
    let (split, entry) = (cache.split(Split::Train), cache.manifest().split(Split::Train));
    assert!(cache.is_masked() && split.is_masked() && !cache.split(Split::Validation).is_masked());
    let mask = entry.mask.clone().unwrap();
    assert_eq!((split.n_trained(), mask.trained, mask.shards[0].path.as_str()), (3 + 3 + 4, 10, "train-00000.mask"));
    assert_eq!(mask.shards[0].checksum, Digest::of_file(&cache.folder().join("train-00000.mask")).unwrap());
    assert_eq!(split.counts(258).unwrap().iter().sum::<u64>(), 10, "only trained tokens are counted");
    assert_eq!(cache.manifest().account.conversations, 2);
    let names: Vec<String> = content(cache.folder()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["manifest.json", "train-00000.counts", "train-00000.documents", "train-00000.mask", "train-00000.tokens"]);
    let whole = place.prepare(&DataConfig { train_on: TrainOn::All, ..config }).unwrap();
    assert_eq!(all_shown(&place, &whole), ["[abcd.]", "[User: a\n\nAssistant: b.]", "[efg.]"]);
    assert!(!whole.is_masked() && whole.manifest().split(Split::Train).mask.is_none());
    assert_eq!(whole.split(Split::Train).n_trained(), whole.split(Split::Train).n_tokens());
}

#[test]
fn texts_before_the_first_row_that_is_not_all_trained_are_trained_in_the_mask() {
    let (place, config) = place(PROMPT);
    place.write("long.txt", "x".repeat(10_000));
    let config = DataConfig { train: vec![place.path("long.txt").display().to_string(), config.train[0].clone()], ..config };
    let cache = place.prepare(&config).unwrap();
    let split = cache.split(Split::Train);
    assert_eq!((split.n_tokens(), split.n_trained()), (10_001 + 5, 10_001 + 3));
    assert!(split.trained(0, 10_001).unwrap().unwrap().iter().all(|token| *token == 1));
    assert_eq!(split.trained(10_001, 100).unwrap().unwrap(), [0, 0, 1, 1, 1]);
}

#[test]
fn the_shipped_rows_train_their_answers() {
    let place = Place::new();
    let root = std::path::absolute("../../fixtures/sft").unwrap();
    let path = |name: &str| vec![root.join(name).display().to_string()];
    let config = DataConfig {
        train: path("train.jsonl"),
        validation: path("validation.jsonl"),
        chat_template: "plain".to_owned(),
        max_empty_rows: 0.0,
        ..DataConfig::default()
    };
    let cache = place.prepare(&config).unwrap();
    assert_eq!(cache.notes(), [""; 0]);
    for (split, name, expected) in [(Split::Train, "train.jsonl", 242), (Split::Validation, "validation.jsonl", 31)] {
        let (split, rows) = (cache.split(split), files::read_to_string(&root.join(name)).unwrap());
        assert_eq!(split.n_documents(), expected);
        for (idx, row) in rows.lines().enumerate() {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            let said = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let expected = match row["messages"].as_array() {
                None => format!("{}[{}.]", said(&row["prompt"]), said(&row["completion"])),
                Some(messages) => {
                    let turn = |message: &serde_json::Value| match message["role"].as_str().unwrap() {
                        "assistant" => format!("Assistant:[ {}.]", said(&message["content"])),
                        "system" => format!("System: {}", said(&message["content"])),
                        _ => format!("User: {}", said(&message["content"])),
                    };
                    messages.iter().map(turn).collect::<Vec<_>>().join("\n\n")
                }
            };
            assert_eq!(shown(&place, split, idx as u64), expected);
        }
    }
}

#[test]
fn what_decides_tokens_or_masks_decides_the_key_and_plain_text_keeps_its_own() {
    let (place, config) = place(CHAT);
    let key = |config: &DataConfig| place.prepare(config).unwrap().key();
    place.write("t.jinja", "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}");
    let mut file = DataConfig { chat_template: place.path("t.jinja").display().to_string(), ..config.clone() };
    let mut keys = vec![
        key(&config),
        key(&DataConfig { chat_template: "chatml".to_owned(), ..config.clone() }),
        key(&DataConfig { train_on: TrainOn::All, ..config.clone() }),
        key(&DataConfig { rows: RowKind::Chat, ..config.clone() }),
        key(&file),
    ];
    // The template's content counts, not its name.
    place.write("t.jinja", "{% for m in messages %}{% generation %}{{ m['content'] }}!{% endgeneration %}{% endfor %}");
    keys.push(key(&file));
    files::rename_new(&place.path("t.jinja"), &place.path("u.jinja")).unwrap();
    file.chat_template = place.path("u.jinja").display().to_string();
    assert_eq!(key(&file), keys[5]);
    let distinct: std::collections::BTreeSet<Digest> = keys.iter().copied().collect();
    assert_eq!(distinct.len(), keys.len());
    assert_eq!(key(&DataConfig { max_empty_rows: 0.1, ..config.clone() }), keys[0], "what is allowed decides no tokens");
    // Of plain text, neither key nor manifest knows of any of this.
    place.write("p.jsonl", "{\"text\":\"ab\"}\n");
    let plain = place.config(&["p.jsonl"]);
    let cache = place.prepare(&plain).unwrap();
    let others = [
        DataConfig { rows: RowKind::Text, ..plain.clone() },
        DataConfig { chat_template: "llama3".to_owned(), ..plain.clone() },
        DataConfig { train_on: TrainOn::All, max_empty_rows: 0.0, ..plain },
    ];
    assert!(others.iter().all(|config| key(config) == cache.key()));
    let manifest = files::read_to_string(&cache.folder().join("manifest.json")).unwrap();
    assert!(["conversations", "untrained", "mask"].iter().all(|word| !manifest.contains(word)), "{manifest}");
    assert!(manifest.contains("\"reading\": \"rows\""), "{manifest}");
}

#[test]
fn a_damaged_mask_is_noticed_and_built_again() {
    let (place, config) = place(&[PROMPT, CHAT].concat());
    let cache = place.prepare(&config).unwrap();
    let whole = content(cache.folder());
    let path = cache.folder().join("train-00000.mask");
    let mut bytes = files::read(&path).unwrap();
    bytes[0] ^= 1;
    files::write_atomic(&path, &bytes).unwrap();
    let error = TokenCache::open(cache.folder()).unwrap_err();
    assert!(error.exit_class() == ExitClass::Integrity && error.to_string().contains("train-00000.mask"), "{error}");
    assert_eq!(content(place.prepare(&config).unwrap().folder()), whole);
    files::remove_file(&path).unwrap();
    assert!(TokenCache::open(cache.folder()).unwrap_err().to_string().contains("it is missing"));
    assert_eq!(content(place.prepare(&config).unwrap().folder()), whole);
}

#[test]
fn bad_rows_have_their_line_or_are_skipped() {
    let rows = [
        CHAT,
        "{\"messages\":[{\"role\":\"bot\",\"content\":\"a\"}]}\n",
        "{\"prompt\":\"a\",\"completion\":1}\n",
        "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"name\":\"f\"}]}]}\n",
        "{\"id\":1}\n",
        PROMPT,
    ];
    let (place, config) = place(&rows.concat());
    let error = place.prepare(&config).unwrap_err();
    let expected = "`D/a.jsonl:2`: `messages[0].role`: unknown role `bot`; known: system, developer, user, assistant, tool";
    assert_eq!((place.told(&error).as_str(), error.exit_class()), (expected, ExitClass::Data));
    let cache = place.prepare(&DataConfig { on_bad_row: OnBadRow::Skip, ..config.clone() }).unwrap();
    assert_eq!(all_shown(&place, &cache), ["User: a\n\nAssistant:[ b.]", "ab[cd.]"]);
    let skipped = &cache.manifest().account.skipped;
    let reasons: Vec<(&str, u64)> = skipped.by_reason.iter().map(|(code, n)| (code.as_str(), *n)).collect();
    assert_eq!(reasons, [("bad_field", 1), ("not_rendered", 1), ("unknown_role", 1), ("unknown_shape", 1)]);
    let listed: Vec<String> = skipped.first.iter().map(|row| place.told(row)).collect();
    assert_eq!(listed[1], "`D/a.jsonl:3`: `completion`: expected text, found a number");
    assert!(listed[2].starts_with("`D/a.jsonl:4`: the chat template cannot render it: "), "{}", listed[2]);
    assert_eq!(listed[3], "`D/a.jsonl:5`: neither `text`, `messages` nor `prompt` is there; the row has `id`");
    // A file of texts stays one.
    place.write("a.jsonl", ["{\"text\":\"x\"}\n", CHAT].concat());
    assert_eq!(place.told(&place.prepare(&config).unwrap_err()), "`D/a.jsonl:2`: no field `text`; the row has `messages`");
    let error = place.prepare(&DataConfig { chat_template: "chatlm".to_owned(), rows: RowKind::Chat, ..config }).unwrap_err();
    assert!(error.to_string().starts_with("data.chat_template: `chatlm`: "), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("chatml")), "{:?}", error.hint());
}

#[test]
fn rows_that_train_nothing_are_left_out_and_too_many_of_them_stop_the_run() {
    let nothing = ["{\"prompt\":\"ab\",\"completion\":\"\"}\n", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n"];
    let (place, config) = place(&[nothing[0], PROMPT, nothing[1], CHAT].concat());
    let cache = place.prepare(&config).unwrap();
    assert_eq!(all_shown(&place, &cache), ["ab[cd.]", "User: a\n\nAssistant:[ b.]"]);
    let untrained = &cache.manifest().account.untrained;
    assert_eq!((untrained.rows, cache.manifest().account.conversations), (2, 4));
    assert_eq!(place.told(&untrained.first[1]), "`D/a.jsonl:3`: no assistant turn");
    let note = "2 of 4 prompts and chats train nothing and were left out; the first: `D/a.jsonl:1`: empty completion";
    assert_eq!(place.told(&cache.notes()[0]), note);
    // The cache that is there is no way around it.
    let strict = DataConfig { max_empty_rows: 0.4, ..config.clone() };
    let error = place.prepare(&strict).unwrap_err();
    let expected = "2 of 4 prompts and chats train nothing, more than the share of 0.4 that `data.max_empty_rows` allows: \
        `D/a.jsonl:1`: empty completion; `D/a.jsonl:3`: no assistant turn";
    assert_eq!((place.told(&error).as_str(), error.exit_class()), (expected, ExitClass::Data));
    assert!(error.hint().unwrap().contains("--masks"));
    files::remove_dir_all(&place.cache_root()).unwrap();
    assert!(matches!(place.prepare(&strict), Err(DataError::EmptyRows { .. })));
    assert!(files::list_dir(&place.cache_root()).unwrap().is_empty(), "nothing is published");
    place.write("a.jsonl", nothing.concat());
    let error = place.prepare(&DataConfig { max_empty_rows: 1.0, ..config }).unwrap_err();
    assert!(error.to_string().starts_with("no training text: 2 documents read, 0 bad rows skipped, 2 empty"), "{error}");
}

#[test]
fn the_safety_policy_holds_for_each_message_and_masks_follow() {
    let row = "{\"messages\":[{\"role\":\"user\",\"content\":\"I am jo@example.org\"},{\"role\":\"assistant\",\"content\":\"Hello jo@example.org!\"}]}\n";
    let (place, config) = place(row);
    let cache = place.prepare(&config).unwrap();
    let shown = &all_shown(&place, &cache)[0];
    assert!(!shown.contains("example.org"), "{shown}");
    assert!(shown.starts_with("User: I am ") && shown.contains("\n\nAssistant:[ Hello ") && shown.ends_with("!.]"), "{shown}");
    assert!(cache.manifest().account.safety.redacted >= 2);
    // A role is no place to hide something, and its text is not told.
    place.write("a.jsonl", "{\"messages\":[{\"role\":\"jo@example.org\",\"content\":\"a\"}]}\n");
    let error = place.prepare(&config).unwrap_err().to_string();
    assert!(!error.contains("example.org"), "{error}");
}

#[test]
fn a_tokenizer_is_trained_on_what_is_said() {
    let (place, config) = place(&[PROMPT, CHAT].concat());
    let sources = open_sources(&config, &[]).unwrap();
    let texts: Vec<String> = train_texts(&sources, &config, &place.scanner).map(Result::unwrap).collect();
    assert_eq!(texts, ["abcd", "a\nb"]);
    let documents: Vec<Content> = sources.train[0].documents().unwrap().map(|document| document.unwrap().content).collect();
    assert!(documents.iter().all(Content::is_conversation));
}

#[test]
fn windows_are_made_of_whole_rows_apart_from_each_other() {
    // abcd. | xyz. | abcd. | a prompt that is longer than a window.
    let long = "{\"prompt\":\"0123456\",\"completion\":\"78\"}\n";
    let (place, config) = place(&[PROMPT, "{\"prompt\":\"x\",\"completion\":\"yz\"}\n", PROMPT, long].concat());
    let cache = place.prepare(&config).unwrap();
    let loader = WindowLoader::new(cache.split(Split::Train), 8, 7, false, false).unwrap();
    assert!(loader.isolates(), "whatever is configured");
    assert_eq!(loader.windows_per_epoch(), 4);
    let batch = loader.batch(0, 3).unwrap();
    let letters =
        |ids: &[u32]| ids.iter().map(|&id| if id < 2 { ['.', '_'][id as usize] } else { char::from((id - 2) as u8) }).collect::<String>();
    let rows: Vec<(String, String)> =
        (0..3).map(|row| (letters(&batch.inputs[row * 8..][..8]), letters(&batch.targets[row * 8..][..8]))).collect();
    let row = |inputs: &str, targets: &str| (inputs.to_owned(), targets.to_owned());
    assert_eq!(rows, [row("abcd.xyz", "bcd.xyz."), row("abcd____", "bcd.____"), row("01234567", "12345678")]);
    assert_eq!(
        batch.weights,
        [[0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0],]
            .concat()
    );
    assert_eq!(batch.segments[..8], [0, 0, 0, 0, 0, 1, 1, 1]);
    assert_eq!(batch.documents[0], DocumentRange { source: 0, first: 0, end: 2 });
    // The rest of the long row has its end as a target.
    assert_eq!(loader.batch(3, 1).unwrap().n_targets(), 1);
    let small = WindowLoader::new(cache.split(Split::Train), 3, 7, false, false).unwrap();
    let n = small.windows_per_epoch();
    assert_eq!(small.batch(0, n as usize).unwrap().n_targets(), cache.split(Split::Train).n_trained());
    assert!(small.batch(0, n as usize).unwrap().weights.chunks(3).all(|row| row.contains(&1.0)), "no window trains nothing");
}

#[test]
fn a_view_tells_who_says_what_and_what_is_trained() {
    let (place, config) = place(&[PROMPT, CHAT, "{\"prompt\":\"ab\",\"completion\":\"\"}\n"].concat());
    let sources = open_sources(&config, &[]).unwrap();
    let mut views = view_rows(&sources, &config, &place.tokenizer, &place.scanner).unwrap();
    let rows: Vec<RowView> = views.by_ref().map(Result::unwrap).collect();
    assert_eq!((rows.len(), views.account().untrained.rows), (2, 1));
    assert!(format!("{views:?}").contains("RowViews"));
    let roles = |row: &RowView| -> Vec<(String, usize, usize)> {
        let chunks = row.tokens.chunk_by(|a, b| a.role == b.role);
        chunks.map(|chunk| (chunk[0].role.clone(), chunk.len(), chunk.iter().filter(|token| token.is_trained).count())).collect()
    };
    let of = |role: &str, tokens, trained| (role.to_owned(), tokens, trained);
    assert_eq!((rows[0].kind, place.told(&rows[0].origin)), ("prompt", "D/a.jsonl:1".to_owned()));
    assert_eq!(roles(&rows[0]), [of("prompt", 2, 0), of("completion", 2, 2), of("end", 1, 1)]);
    let expected = [of("template", 6, 0), of("user", 1, 0), of("template", 12, 0), of("assistant", 3, 3)];
    assert_eq!((rows[1].kind, roles(&rows[1])), ("chat", expected.to_vec()));
}
