//! The path `-`: standard input, read once and as often as a run needs it.
//!
//! The process whose standard input is meant is this test program, run again.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use codex_core::{Failure, files};
use codex_data::{DataConfig, DataError, SourceConfig, open_sources, train_texts};

use crate::Place;
use crate::sources::gzip;

/// A file that tells the test below that it is the process that reads.
const JOB: &str = "read.job";
const TEST: &str = "standard_input::reads_when_there_is_a_job";

#[test]
fn reads_when_there_is_a_job() {
    if !Path::new(JOB).exists() {
        return;
    }
    let place = Place::new();
    let config = DataConfig { train: vec!["-".to_owned()], ..DataConfig::default() };
    let mut out = Vec::new();
    // Twice, as training does that looks for a tokenizer first.
    for _ in 0..2 {
        let sources = open_sources(&config, &[]).unwrap();
        let checksum = sources.checksums().unwrap().remove(0);
        writeln!(out, "{} {} {}", sources.train[0].name(), checksum.path, checksum.bytes).unwrap();
        let description = sources.describe(10, &place.scanner).unwrap().remove(0);
        writeln!(out, "{} {:?} {:?}", description.format, description.compression, sources.notes()).unwrap();
        for text in train_texts(&sources, &config, &place.scanner) {
            match text {
                Ok(text) => writeln!(out, "text {text:?}").unwrap(),
                Err(error) => writeln!(out, "error {error}").unwrap(),
            }
        }
    }
    files::write_atomic(Path::new("out"), &out).unwrap();
}

/// What the process says that is given these bytes: once, for both times.
fn said(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    files::write_atomic(&dir.path().join(JOB), b"").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = files::read_to_string(&dir.path().join("out")).unwrap();
    let (first, second) = out.split_at(out.len() / 2);
    assert_eq!(first, second);
    first.to_owned()
}

#[test]
fn what_is_piped_in_is_read_as_what_it_is() {
    let rows = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
    let of = |bytes: usize, format: &str, compression: &str, taken_for: &str, texts: &str| {
        format!(
            "standard input - {bytes}\n{format} {compression} [\"`standard input` is read as {taken_for}, which is what its first bytes say\"]\n{texts}"
        )
    };
    let both = "text \"one\"\ntext \"two\"\n";
    assert_eq!(said(rows.as_bytes()), of(rows.len(), "JSON lines", "None", "JSON lines", both));
    let packed = gzip(rows);
    assert_eq!(said(&packed), of(packed.len(), "JSON lines", "Some(\"gzip\")", "compressed with gzip, JSON lines", both));
    let array = "[{\"text\": \"one\"}, {\"text\": \"two\"}]";
    assert_eq!(said(array.as_bytes()), of(array.len(), "a JSON array", "None", "a JSON array", both));
    let table = "n,text\n1,one\n2,two\n";
    assert_eq!(said(table.as_bytes()), of(table.len(), "a table with commas (CSV)", "None", "a table with commas (CSV)", both));
    assert_eq!(said(b"prose\n"), of(6, "one text", "None", "one text", "text \"prose\\n\"\n"));
    let bad = "{\"text\": \"one\"}\n{\"text\": 7}\n";
    let expected = "text \"one\"\nerror `standard input:2`: field `text`: expected text, found a number\n";
    assert_eq!(said(bad.as_bytes()), of(bad.len(), "JSON lines", "None", "JSON lines", expected));
    // Nothing at all is one text without a character.
    assert_eq!(said(b""), of(0, "one text", "None", "one text", ""));
    // More than a pipe holds.
    let long = "{\"text\": \"0123456789\"}\n".repeat(50_000);
    assert!(said(long.as_bytes()).starts_with(&format!("standard input - {}\n", long.len())));
}

#[test]
fn it_is_named_once() {
    let place = Place::new();
    place.write("a.txt", "a");
    let dash = || "-".to_owned();
    let refused = |config: &DataConfig| {
        let error = open_sources(config, &[]).unwrap_err();
        assert!(error.exit_class().code() == 2 && matches!(error, DataError::Config { .. }), "{error}");
        error.to_string()
    };
    let twice = DataConfig { train: vec![dash(), dash()], ..DataConfig::default() };
    assert_eq!(refused(&twice), "data.train: `-` is standard input, which `data.train` names already; write it to a file to read it twice");
    let source = |path: String| SourceConfig { paths: vec![path], weight: 1.0 };
    let sources = [("a", source(dash())), ("b", source(dash()))].map(|(name, source)| (name.to_owned(), source));
    let mixture = DataConfig { sources: sources.into(), ..DataConfig::default() };
    assert!(refused(&mixture).starts_with("data.sources.b: `-` is standard input, which `data.sources.a` names already"));
    let sets = [("held".to_owned(), vec![dash()])].into();
    let set = DataConfig { validation: vec![dash()], validation_sets: sets, ..place.config(&["a.txt"]) };
    assert!(refused(&set).starts_with("data.validation_sets.held: `-` is"));
    let hint = DataError::TerminalInput.hint().unwrap();
    assert!(DataError::TerminalInput.exit_class().code() == 2 && hint.contains("codex-cli data inspect -"));
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let full = DataError::Spool { folder: "/tmp".into(), bytes: 7, source };
    assert_eq!(full.to_string(), "cannot copy standard input to a temporary file in `/tmp`, after 7 bytes: no storage space");
    assert!(full.exit_class().code() == 5 && full.hint().unwrap().contains("TMPDIR"));
}

/// `script` gives its command a terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    files::write_atomic(&dir.path().join(JOB), b"").unwrap();
    let command = format!("{} --exact {TEST} --nocapture", std::env::current_exe().unwrap().display());
    let output = Command::new("script").args(["-qec", &command, "/dev/null"]).current_dir(dir.path()).stdin(Stdio::null()).output();
    // A machine without `script` has shown the rest.
    let Ok(output) = output else { return };
    assert!(String::from_utf8_lossy(&output.stdout).contains("TerminalInput"), "{output:?}");
}
