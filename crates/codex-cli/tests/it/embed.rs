//! `model embed`, and what else is said of an encoder: a small one of random weights with a tokenizer of whole words.

use codex_core::files;
use serde_json::{Value, json};

use super::harness::Bench;

/// Words of the tokenizer, in the order of their ids: as many as the encoder has rows.
fn words() -> Vec<String> {
    let mut all: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "rain", "fell", "##s", "."].map(str::to_owned).into();
    all.extend((all.len()..48).map(|index| format!("word{index}")));
    all
}

/// A folder with an encoder that sentence-transformers could have written.
fn bench() -> Bench {
    let bench = Bench::new();
    for file in files::list_dir(&std::path::absolute("../../fixtures/parity/bert-mlm").unwrap()).unwrap() {
        bench.write(&format!("enc/{}", file.file_name().unwrap().to_str().unwrap()), files::read(&file).unwrap());
    }
    let special = |id: usize| json!({"id": id, "content": words()[id], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let vocabulary: serde_json::Map<String, Value> = words().into_iter().enumerate().map(|(id, word)| (word, json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0}, "padding": null,
        "added_tokens": (0..5).map(special).collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    bench.write("enc/tokenizer.json", tokenizer.to_string());
    let module = |index: usize, kind: &str, path: &str| json!({"idx": index, "name": "", "path": path, "type": format!("sentence_transformers.models.{kind}")});
    let modules = json!([module(0, "Transformer", ""), module(1, "Pooling", "1_Pooling"), module(2, "Normalize", "2_Normalize")]);
    bench.write("enc/modules.json", modules.to_string());
    bench.write("enc/1_Pooling/config.json", json!({"pooling_mode_mean_tokens": true}).to_string());
    bench.write("enc/sentence_bert_config.json", json!({"max_seq_length": 8}).to_string());
    bench
}

fn vectors(value: &Value) -> Vec<Vec<f64>> {
    let numbers = |text: &Value| text["embedding"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect();
    value["texts"].as_array().unwrap().iter().map(numbers).collect()
}

const LINES: &str = "the rain fell\n\nrains\nthe rain\nThe RAIN fell.\nfell the rain\nword11 word12 word13\n";

#[test]
fn lines_become_vectors_that_depend_on_nothing_but_the_line() {
    let bench = bench();
    bench.write("lines.txt", LINES);
    let all = bench.json(&["model", "embed", "enc", "lines.txt"]);
    let texts = all["texts"].as_array().unwrap();
    assert_eq!(texts.iter().map(|text| text["line"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3, 4, 5, 6, 7]);
    // `rains` is two pieces; each text stands between two tokens.
    assert_eq!(texts.iter().map(|text| text["tokens"].as_u64().unwrap()).collect::<Vec<_>>(), [5, 4, 4, 6, 5, 5]);
    assert_eq!(
        (&all["pooling"], &all["normalized"], &all["width"], &all["max_tokens"]),
        (&json!("mean"), &json!(true), &json!(16), &json!(8))
    );
    let expected = vectors(&all);
    for vector in &expected {
        let length: f64 = vector.iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-6, "{length}");
    }
    // The same bits in any batch, at any number of threads, and for a text by itself.
    for more in [["--batch", "1"], ["--batch", "3"], ["--threads", "1"], ["--threads", "3"]] {
        assert_eq!(vectors(&bench.json(&[&["model", "embed", "enc", "lines.txt"], more.as_slice()].concat())), expected, "{more:?}");
    }
    let one = bench.json(&["model", "embed", "enc", "--text", "fell the rain"]);
    assert_eq!(vectors(&one)[0], expected[4]);
    assert!(one["texts"][0].get("line").is_none());
    // Standard input where nothing is named, and the texts before the lines of a file.
    let mut command = bench.command(&["model", "embed", "enc", "--json"]);
    command.stdin(files::open(&bench.path("lines.txt")).unwrap());
    assert_eq!(vectors(&serde_json::from_slice(&command.output().unwrap().stdout).unwrap()), expected);
    let both = vectors(&bench.json(&["model", "embed", "enc", "lines.txt", "--text", "rains"]));
    assert_eq!((both.len(), &both[0]), (7, &expected[1]));
}

#[test]
fn the_vectors_are_those_of_the_ids() {
    let bench = bench();
    // What the golden test of codex-hub compares with transformers, by way of the head: the ids of the text, as `model logits` takes them.
    let logits = bench.json(&["model", "logits", "enc", "--ids", "2,5,6,7,3"]);
    assert_eq!(logits["sequences"][0]["logits"].as_array().unwrap().len(), 5);
    assert_eq!(logits["sequences"][0]["logits"][0].as_array().unwrap().len(), 48);
    let shown = bench.run(&["model", "logits", "enc", "--ids", "2,5,6,7,3"]);
    assert!(shown.out.contains("most likely here") && shown.out.contains("\"rain\""), "{}", shown.out);
    let plain = vectors(&bench.json(&["model", "embed", "enc", "--text", "the rain fell", "--normalize=false"])).remove(0);
    let unit = vectors(&bench.json(&["model", "embed", "enc", "--text", "the rain fell", "--normalize"])).remove(0);
    let length = plain.iter().map(|number| number * number).sum::<f64>().sqrt();
    assert!((length - 1.0).abs() > 0.1 && plain.iter().zip(&unit).all(|(plain, unit)| (plain / length - unit).abs() < 1e-6));
    let cls = vectors(&bench.json(&["model", "embed", "enc", "--text", "the rain fell", "--pooling", "cls", "--normalize"])).remove(0);
    assert!(cls.iter().zip(&unit).any(|(cls, mean)| (cls - mean).abs() > 0.01));
}

#[test]
fn long_texts_are_cut_and_it_is_said_how_many() {
    let bench = bench();
    let answer = bench.run(&[
        "model",
        "embed",
        "enc",
        "--text",
        "the the the the the the the",
        "--text",
        "the",
        "--text",
        "the the the the the the",
        "--json",
    ]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("1 of 3 texts are longer than the 8 tokens"), "{}", answer.err);
    let value: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(
        (&value["texts"][0]["tokens"], &value["texts"][0]["is_cut"], &value["texts"][2]["is_cut"]),
        (&json!(8), &json!(true), &json!(false))
    );
    assert_eq!(vectors(&value)[0], vectors(&value)[2], "seven and six of one word are the same six");
}

#[test]
fn several_texts_are_compared() {
    let bench = bench();
    let answer = bench.run(&["model", "embed", "enc", "--text", "the rain", "--text", "THE rain", "--text", "word20"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.out.contains("16 numbers each") && answer.out.contains("cosine"), "{}", answer.out);
    let row = answer.out.lines().find(|line| line.contains("text 2") && line.matches("1.000").count() == 2);
    assert!(row.is_some(), "two texts that are one to the tokenizer: {}", answer.out);
    assert!(!bench.run(&["model", "embed", "enc", "--text", "the rain"]).out.contains("cosine"));
    let inspect = bench.json(&["model", "inspect", "enc"]);
    assert_eq!(
        (&inspect["holds"], &inspect["pooling"], &inspect["model"]["masked_lm_head"]),
        (&json!("an encoder"), &json!("mean"), &json!(true))
    );
    assert_eq!(inspect["tokenizer"]["ids"], json!(48));
    assert!(bench.run(&["model", "inspect", "enc"]).out.contains("the mean of all positions, divided by its length"));
}

#[test]
fn what_cannot_be_embedded_is_named() {
    let bench = bench();
    let told = |arguments: &[&str], code: i32, parts: &[&str]| {
        let answer = bench.run(arguments);
        assert_eq!(answer.code, code, "{arguments:?}: {}", answer.err);
        for part in parts {
            assert!(answer.err.contains(part), "{arguments:?}: expected {part:?} in {}", answer.err);
        }
    };
    told(&["model", "embed", "enc"], 2, &["there is no text", "--text"]);
    told(&["model", "embed", "enc", "--text", "a", "--batch", "0"], 2, &["--batch"]);
    told(&["model", "embed", "nothing", "--text", "a"], 2, &["no model is called `nothing`"]);
    told(&["model", "embed", "enc", "absent.txt"], 5, &["absent.txt"]);
    bench.write("bad.txt", [b'a', 0xff]);
    told(&["model", "embed", "enc", "bad.txt"], 3, &["bad.txt: not UTF-8 text (byte 1)"]);
    bench.write("empty/note.txt", "no model");
    told(&["model", "embed", "empty", "--text", "a"], 2, &["neither `config.json` nor `modules.json`"]);
    told(&["generate", "enc", "--prompt", "a"], 3, &["this is an encoder", "model embed"]);
    told(&["model", "logits", "enc", "--ids", "1,48"], 3, &["token id 48 at position 1 is outside the vocabulary of 48"]);
    told(&["model", "logits", "enc", "--ids", "1", "--weights", "int8"], 2, &["neither weights of 8 bits nor a base"]);
    // Without head, and without tokenizer.
    for file in files::list_dir(&std::path::absolute("../../fixtures/parity/bert-bare").unwrap()).unwrap() {
        bench.write(&format!("bare/{}", file.file_name().unwrap().to_str().unwrap()), files::read(&file).unwrap());
    }
    told(&["model", "logits", "bare", "--ids", "1"], 2, &["encoder without masked-LM head", "model embed"]);
    told(&["model", "embed", "bare", "--text", "a"], 3, &["has no tokenizer"]);
    // Special tokens that the tokenizer has not, and one that is named otherwise.
    bench.write("enc/tokenizer_config.json", json!({"cls_token": "<s>"}).to_string());
    told(&["model", "embed", "enc", "--text", "a"], 4, &["`cls_token`", "`<s>`"]);
    bench.write("enc/tokenizer_config.json", json!({"cls_token": {"content": "[MASK]"}}).to_string());
    assert_eq!(bench.run(&["model", "embed", "enc", "--text", "a"]).code, 0);
}
