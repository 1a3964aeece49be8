//! Saving, loading, and refusing a file that is not the one its manifest describes.

use codex_core::{Digest, ExitClass, Failure, files};
use codex_tokenize::{
    BpeTokenizer, CorpusRecord, MANIFEST_FILE, SCHEMA, TOKENIZER_FILE, TokenizeError, Tokenizer, TokenizerConfig, TokenizerKind,
    TrainProgress, load, read_manifest, save, train,
};

use crate::{bpe, bytes, config};

fn corpus() -> Vec<CorpusRecord> {
    vec![CorpusRecord { name: "emma.txt".to_owned(), bytes: 200_000, digest: Digest::of_bytes(b"emma") }]
}

#[test]
fn what_is_saved_loads_equal() {
    let dir = tempfile::tempdir().unwrap();
    for (name, tokenizer) in [("bpe", bpe()), ("byte", bytes())] {
        let folder = dir.path().join("new").join(name);
        let manifest = save(&*tokenizer, &config(512), &corpus(), &folder).unwrap();
        assert_eq!(manifest.schema, SCHEMA);
        assert_eq!((manifest.digest, manifest.vocab_size), (tokenizer.digest(), tokenizer.vocab_size()));
        assert_eq!(read_manifest(&folder).unwrap(), manifest);
        assert_eq!(read_manifest(&folder).unwrap().corpus, corpus());
        for path in [folder.clone(), folder.join(TOKENIZER_FILE)] {
            let loaded = load(&path).unwrap();
            assert_eq!(loaded.digest(), tokenizer.digest());
            assert_eq!(loaded.to_json(), tokenizer.to_json());
            assert_eq!(format!("{loaded:?}").starts_with("ByteTokenizer"), name == "byte");
            assert_eq!(loaded.encode("Emma é").unwrap(), tokenizer.encode("Emma é").unwrap());
        }
        // Into the same folder again: only the manifest can differ.
        let again = save(&*tokenizer, &config(512), &[], &folder).unwrap();
        assert_eq!(read_manifest(&folder).unwrap(), again);
        assert_eq!(files::list_dir(&folder).unwrap().len(), 2);
    }
    assert_eq!(BpeTokenizer::load(&dir.path().join("new/bpe")).unwrap().vocab_size(), 512);
}

#[test]
fn another_tokenizer_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("t");
    let manifest = save(&*bpe(), &config(512), &corpus(), &folder).unwrap();
    let error = save(&*bytes(), &config(512), &[], &folder).unwrap_err();
    assert_eq!(error.exit_class(), ExitClass::Usage);
    let expected =
        format!("`{}` holds another tokenizer: expected digest {}, found {}", folder.display(), bytes().digest(), bpe().digest());
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().unwrap().contains("another folder"));
    assert_eq!((load(&folder).unwrap().digest(), read_manifest(&folder).unwrap()), (bpe().digest(), manifest.clone()));
    // Its own manifest does not make another's file ours.
    files::remove_file(&folder.join(MANIFEST_FILE)).unwrap();
    assert!(save(&*bytes(), &config(512), &[], &folder).is_err());
    assert_eq!(load(&folder).unwrap().digest(), bpe().digest());
    // What a kill between the two files leaves is made whole by saving again.
    assert_eq!(save(&*bpe(), &config(512), &corpus(), &folder).unwrap(), manifest);
    assert_eq!(read_manifest(&folder).unwrap(), manifest);
}

#[test]
fn a_tokenizer_is_saved_beside_what_is_in_a_folder_already() {
    let dir = tempfile::tempdir().unwrap();
    files::write_atomic(&dir.path().join("notes.txt"), b"mine").unwrap();
    save(&*bpe(), &config(512), &[], dir.path()).unwrap();
    assert_eq!(load(dir.path()).unwrap().digest(), bpe().digest());
    assert_eq!(files::read(&dir.path().join("notes.txt")).unwrap(), b"mine");
}

#[test]
fn what_a_killed_save_left_is_swept_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.tmp-1-1/tokenizer.json", "a.tmp-1-1.lock", "living.tmp-1-2/tokenizer.json", "b.tmp-1-3.lock"] {
        let path = dir.path().join(name);
        files::create_dir_all(files::parent(&path)).unwrap();
        files::write_atomic(&path, b"").unwrap();
    }
    let held = codex_core::Lock::acquire(&dir.path().join("living.tmp-1-2.lock")).unwrap();
    save(&*bpe(), &config(512), &[], &dir.path().join("b")).unwrap();
    let names = ["b", "living.tmp-1-2", "living.tmp-1-2.lock"].map(|name| dir.path().join(name));
    assert_eq!(files::list_dir(dir.path()).unwrap(), names);
    drop(held);
}

#[test]
fn a_file_that_is_too_large_is_data_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    save(&*bpe(), &config(512), &[], dir.path()).unwrap();
    for name in [TOKENIZER_FILE, MANIFEST_FILE] {
        let path = dir.path().join(name);
        let whole = files::read(&path).unwrap();
        files::write_atomic(&path, &vec![b' '; (64 << 20) + 1]).unwrap();
        for error in [load(dir.path()).unwrap_err(), read_manifest(dir.path()).unwrap_err()] {
            assert_eq!(error.to_string(), format!("`{}` is larger than 67108864 bytes", path.display()));
            assert_eq!(error.exit_class(), ExitClass::Data);
            assert!(error.hint().is_some());
        }
        files::write_atomic(&path, &whole).unwrap();
    }
}

#[test]
fn a_changed_file_is_refused_with_both_digests() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(TOKENIZER_FILE);
    let manifest = save(&*bpe(), &config(512), &[], dir.path()).unwrap();
    let changed = bpe().to_json().replacen("\"<|pad|>\"", "\"<|Pad|>\"", 1);
    files::write_atomic(&path, changed.as_bytes()).unwrap();
    for error in [read_manifest(dir.path()).unwrap_err(), load(dir.path()).unwrap_err(), load(&path).unwrap_err()] {
        assert_eq!(error.exit_class(), ExitClass::Integrity);
        let expected = format!("`{}`: expected digest {}, found {}", path.display(), manifest.digest, Digest::of_bytes(changed.as_bytes()));
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_bad_manifest_is_refused_and_an_absent_one_is_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    save(&*bpe(), &config(512), &[], dir.path()).unwrap();
    let path = dir.path().join(MANIFEST_FILE);
    let good = files::read_to_string(&path).unwrap();
    for (text, expected) in [
        (good.replace(SCHEMA, "codex.tokenizer.v9"), "`schema`: expected `codex.tokenizer.v1`, found `codex.tokenizer.v9`"),
        ("{".to_owned(), "line 1 column 1: not the JSON of a tokenizer manifest"),
        (good.replace("\"vocab_size\": 512,\n  \"corpus\"", "\"corpse\""), "not the JSON of a tokenizer manifest"),
    ] {
        files::write_atomic(&path, text.as_bytes()).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert_eq!(error.exit_class(), ExitClass::Integrity);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(read_manifest(dir.path()).is_err());
    }
    files::remove_file(&path).unwrap();
    assert_eq!(load(dir.path()).unwrap().digest(), bpe().digest());
    assert_eq!(read_manifest(dir.path()).unwrap_err().exit_class(), ExitClass::Io);
}

#[test]
fn an_absent_file_is_told_with_its_path() {
    let error = load("no/such/folder".as_ref()).unwrap_err();
    assert_eq!(error.exit_class(), ExitClass::Io);
    assert!(error.to_string().starts_with("cannot open `no/such/folder`"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn a_configured_file_is_used_instead_of_training() {
    let dir = tempfile::tempdir().unwrap();
    save(&*bpe(), &config(512), &[], dir.path()).unwrap();
    let config = TokenizerConfig { file: Some(dir.path().to_owned()), ..TokenizerConfig::default() };
    let mut told = Vec::new();
    let unread = std::iter::from_fn(|| -> Option<&str> { panic!("the texts are read") });
    let tokenizer = train(&config, unread, &mut |progress| told.push(progress)).unwrap();
    assert_eq!(tokenizer.digest(), bpe().digest());
    assert_eq!(told, [TrainProgress::Done { vocab_size: 512 }]);
}

#[test]
fn a_wrong_configuration_and_no_text_are_errors() {
    let error = train(&config(10), std::iter::empty(), &mut |_| ()).unwrap_err();
    assert_eq!(error.exit_class(), ExitClass::Usage);
    assert!(matches!(train(&config(300), std::iter::empty(), &mut |_| ()), Err(TokenizeError::NoText)));
    let byte = TokenizerConfig { kind: TokenizerKind::Byte, ..TokenizerConfig::default() };
    assert_eq!(train(&byte, std::iter::empty(), &mut |_| ()).unwrap().digest(), bytes().digest());
}

#[test]
fn a_corpus_record_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    files::write_atomic(&path, b"abc").unwrap();
    let record = CorpusRecord::of_file(&path).unwrap();
    assert_eq!((record.bytes, record.digest), (3, Digest::of_bytes(b"abc")));
    assert_eq!(record.name, path.display().to_string());
    assert!(CorpusRecord::of_file(&dir.path().join("b.txt")).is_err());
}
