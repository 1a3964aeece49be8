//! What training and encoding must give, to the byte: a change of the library, or of the thread count, shows here.

use std::process::Command;

use codex_tokenize::train;

use crate::{bpe, bytes, config, novel};

#[test]
fn pinned_excerpt() {
    let tokenizer = bpe();
    assert_eq!(tokenizer.vocab_size(), 512);
    assert_eq!(tokenizer.digest().to_string(), "720808ff8c004c942f8900bf47e25c04bcaaeb3a11e01bf55f664e514366a367");
    assert_eq!(bytes().digest().to_string(), "c6c571b924d209963395cd7c1bc86426e833952f5e4c0d619da0524d3fa5cd70");
}

#[test]
fn pinned_novel() {
    let text = novel();
    let tokenizer = train(&config(2048), text.split_inclusive('\n'), &mut |_| ()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 2048);
    assert_eq!(tokenizer.digest().to_string(), "d096459acff88f2f9ff8c48de7da4c9c65dbd955fa284f696a319f004b7fafd8");
}

#[test]
fn the_ids_are_the_pinned_ones() {
    let tokenizer = bpe();
    let tokens =
        |text: &str| tokenizer.encode(text).unwrap().into_iter().map(|id| tokenizer.id_to_token(id).unwrap()).collect::<Vec<_>>().join(" ");
    assert_eq!(tokens("Emma Woodhouse, handsome, clever, and rich"), "E mma ĠW ood h ouse , Ġha nd s ome , Ġc le ver , Ġand Ġ ri ch");
    assert_eq!(tokens("she'd  had\n\nlittle to 1816 <|pad|>"), "s he ' d Ġ Ġhad Ċ Ċ l ittle Ġto Ġ 1 8 1 6 Ġ < | p ad | >");
    assert_eq!(
        tokenizer.encode("It was Miss Taylor's loss which first brought grief.").unwrap(),
        [42, 85, 325, 482, 406, 333, 77, 291, 374, 422, 438, 470, 283, 357, 324, 270, 83, 465, 311, 317, 70, 71, 15]
    );
}

#[test]
fn specials_come_first_then_bytes_then_merges() {
    let tokenizer = bpe();
    let name = |id| tokenizer.id_to_token(id).unwrap();
    assert_eq!([0, 1, 2, 3].map(name), ["<|endoftext|>", "<|pad|>", "!", "\""]);
    assert_eq!((tokenizer.token_bytes(257), tokenizer.token_bytes(258)), (Some(1), Some(2)));
    assert_eq!([258, 259, 260].map(name), ["Ġt", "Ġa", "he"]);
}

/// Each run is the two tests above in a process of its own, as the thread pool is made once in a process.
#[test]
fn training_is_the_same_at_any_thread_count() {
    let this = std::env::current_exe().unwrap();
    for (threads, parallel) in [("1", "true"), ("2", "true"), ("4", "true"), ("4", "false")] {
        let run = Command::new(&this)
            .args(["golden::pinned"])
            .env("RAYON_NUM_THREADS", threads)
            .env("TOKENIZERS_PARALLELISM", parallel)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && told.contains("2 passed"), "{threads} threads: {told}");
    }
}
