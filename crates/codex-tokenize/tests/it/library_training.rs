//! Our trainer makes the file of the library's, byte for byte; and the same whatever goes to the disk and however the texts come.

use codex_core::files;
use codex_tokenize::{TokenizeError, TokenizerConfig, TrainOptions, train, trainer};
use proptest::prelude::*;

use crate::library_trainer::library_trained;
use crate::novel;

fn config(vocab_size: usize, min_frequency: u64) -> TokenizerConfig {
    TokenizerConfig { vocab_size, min_frequency, ..TokenizerConfig::default() }
}

fn ours(config: &TokenizerConfig, texts: &[&str]) -> String {
    train(config, texts.iter().copied(), &mut |_| ()).unwrap().to_json().to_owned()
}

/// With these options, in batches of so many texts.
fn in_batches(config: &TokenizerConfig, options: &TrainOptions, texts: &[&str], batch: usize) -> Result<String, TokenizeError> {
    let mut trainer = trainer(config, options)?;
    for batch in texts.chunks(batch) {
        trainer.add(batch)?;
    }
    Ok(trainer.finish(&mut |_| ())?.tokenizer.to_json().to_owned())
}

#[test]
fn a_novel_gives_the_librarys_file_at_any_size() {
    let text = novel();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for (vocab_size, min_frequency) in [(300, 2), (1000, 2), (3000, 5), (8000, 1)] {
        let config = config(vocab_size, min_frequency);
        assert!(ours(&config, &lines) == library_trained(&config, &lines), "{vocab_size} ids");
    }
}

#[test]
fn runs_of_few_letters_are_as_in_the_library() {
    // Pairs overlap in runs, which is where the same token could be made of two pairs; each is made once, here and there.
    let texts: Vec<String> = (1..40).map(|n| format!("{} {} {}", "a".repeat(n), "ab".repeat(n % 7), "aab".repeat(n % 5))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for vocab_size in 258..330 {
        let config = config(vocab_size, 1);
        let file = ours(&config, &texts);
        assert_eq!(file, library_trained(&config, &texts), "{vocab_size} ids");
        let parsed: serde_json::Value = serde_json::from_str(&file).unwrap();
        assert_eq!(parsed["model"]["merges"].as_array().unwrap().len(), parsed["model"]["vocab"].as_object().unwrap().len() - 258);
    }
}

#[test]
fn what_goes_to_the_disk_changes_no_byte_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let text = novel();
    let lines: Vec<&str> = text.split_inclusive('\n').take(4000).collect();
    let reversed: Vec<&str> = lines.iter().rev().copied().collect();
    let config = config(1500, 2);
    let expected = ours(&config, &lines);
    for (lines, batch, count_bytes) in [(&lines, 1000, 1 << 20), (&lines, 100, 50_000), (&reversed, 321, 100_000), (&reversed, 4000, 1)] {
        let options = TrainOptions { spill_folder: Some(dir.path().to_owned()), count_bytes, ..TrainOptions::default() };
        assert!(in_batches(&config, &options, lines, batch).unwrap() == expected, "{batch}");
    }
    assert!(files::list_dir(dir.path()).unwrap().is_empty());
}

#[test]
fn a_damaged_or_lost_spill_is_an_error_and_the_rest_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let options = TrainOptions { spill_folder: Some(dir.path().to_owned()), count_bytes: 0, ..TrainOptions::default() };
    let run = |edit: &dyn Fn(&std::path::Path)| {
        let mut trainer = trainer(&config(300, 1), &options).unwrap();
        trainer.add(&["some words of a text"]).unwrap();
        let folder = files::list_dir(dir.path()).unwrap().pop().unwrap();
        edit(&files::list_dir(&folder).unwrap()[0]);
        let error = trainer.finish(&mut |_| ()).unwrap_err();
        assert!(files::list_dir(dir.path()).unwrap().is_empty());
        error
    };
    let damaged = run(&|path| {
        let mut bytes = files::read(path).unwrap();
        bytes[4] ^= 8;
        files::write_atomic(path, &bytes).unwrap();
    });
    assert!(matches!(damaged, TokenizeError::SpillDamaged { .. }), "{damaged}");
    assert!(matches!(run(&|path| files::remove_file(path).unwrap()), TokenizeError::File(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn small_corpora_give_the_librarys_file(
        texts in prop::collection::vec("[ab c]{0,30}|(a|b|ab|aab|  |x1|é|字){0,20}", 1..8), vocab_size in 258_usize..330, min_frequency in 1_u64..6,
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        prop_assume!(texts.iter().any(|text| !text.is_empty()));
        let config = config(vocab_size, min_frequency);
        prop_assert_eq!(ours(&config, &texts), library_trained(&config, &texts));
    }

    #[test]
    fn order_and_batches_change_nothing(
        mut texts in prop::collection::vec("[ab c]{0,30}", 1..20), batch in 1_usize..8, count_bytes in 0_usize..2000,
    ) {
        let config = config(300, 1);
        prop_assume!(texts.iter().any(|text| !text.is_empty()));
        let first = ours(&config, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        texts.sort();
        let options = TrainOptions { count_bytes, ..TrainOptions::default() };
        prop_assert_eq!(first, in_batches(&config, &options, &texts.iter().map(String::as_str).collect::<Vec<_>>(), batch).unwrap());
    }
}
