//! The report of a run that is large, named, verified, or has texts that try to get out.

use codex_core::{Digest, Timestamp, files};
use codex_track::report::sweep::{SweepAxes, SweepTrial, SweepValue, sweep_page};
use codex_track::report::{ReportOptions, render, render_with};
use codex_track::{Annotation, Direction, Event, Level, RunDir, RunRecord, VerifyRecord, annotate};
use proptest::prelude::*;
use serde_json::{Value, json};

fn run_in(path: &std::path::Path, name: &str) -> RunDir {
    let run = RunDir::open(path).unwrap();
    let mut record = RunRecord::new(&run, name, &[name.to_owned()], 1, Digest::of_bytes(b""), Digest::of_bytes(b""), Timestamp(1000));
    record.summary.insert("validation/loss".to_owned(), 2.0);
    record.write(&run).unwrap();
    run
}

fn line(step: u64, split: &str, metric: &str, value: f64) -> String {
    format!("{{\"step\":{step},\"split\":{},\"metric\":\"{metric}\",\"value\":{value}}}\n", Value::from(split))
}

/// The text of an element that begins with this.
fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let start = page.find(&format!("<section id=\"{id}\">")).unwrap_or_else(|| panic!("no section {id}"));
    page[start..].split("</section>").next().unwrap()
}

#[test]
fn every_validation_set_has_its_curve_and_its_row() {
    let root = tempfile::tempdir().unwrap();
    let run = run_in(root.path(), "sets");
    let mut lines = String::new();
    for step in 0..5 {
        let value = 5.0 - step as f64;
        lines += &line(step, "validation", "loss", value);
        lines += &line(step, "validation/emma", "loss", if step == 3 { 0.5 } else { value + 1.0 });
        lines += &line(step, "validation/emma", "token_accuracy", 0.25);
        lines += &line(step, "validation/<park>", "loss", value + 2.0);
    }
    run.write_text("metrics.ndjson", &lines).unwrap();
    let page = render(&run).unwrap();
    let curves = section(&page, "curves");
    for label in ["validation: emma", "validation: &lt;park&gt;", ">validation<"] {
        assert!(curves.contains(label), "{label}");
    }
    assert_eq!(curves.matches("<path class=\"curve").count(), 2 * 3, "three curves, wide and narrow");
    let table = section(&page, "validation");
    assert!(table.contains("0.5000 at step 3") && table.contains("25.0 %") && table.contains("all together"), "{table}");
}

#[test]
fn the_page_says_what_was_verified_said_and_kept() {
    let root = tempfile::tempdir().unwrap();
    let run = run_in(root.path(), "old");
    let page = render(&run).unwrap();
    assert!(page.contains(">not verified<") && section(&page, "verification").contains("codex-cli runs verify PATH/"));
    assert!(!page.contains("id=\"telemetry\"") && !page.contains("id=\"checkpoints\""));
    let said = Annotation {
        name: Some("A better name".to_owned()),
        add_tags: vec!["keep".to_owned()],
        note: Some("why\nit was run".to_owned()),
        ..Annotation::default()
    };
    annotate(&run, &said).unwrap();
    VerifyRecord::new(7, Vec::new(), Timestamp(5000)).keep(&run).unwrap();
    run.write_text("metrics.ndjson", &line(1, "train", "loss", 1.0)).unwrap();
    let degraded = Event::new(Timestamp(0), Level::Warn, "degraded", "`csv` is off", json!({ "component": "csv", "reason": "disk full" }));
    run.write_text("events.ndjson", &(serde_json::to_string(&degraded).unwrap() + "\n")).unwrap();
    run.write_json("data.manifest.json", &json!({ "splits": { "train": { "count": 5, "tokens": 1_073_635, "text_bytes": 3_558_175 } } }))
        .unwrap();
    let folder = run.checkpoints().join("step-00000700");
    files::create_dir_all(&folder).unwrap();
    files::write_atomic(&folder.join("manifest.json"), b"{}").unwrap();
    files::write_atomic(&run.checkpoints().join("latest.json"), br#"{"folder":"step-00000700"}"#).unwrap();
    let best = json!({ "metric": "validation/loss", "items": [{ "folder": "step-00000700", "value": 4.0535 }] });
    files::write_atomic(&run.checkpoints().join("best.json"), best.to_string().as_bytes()).unwrap();
    let page = render(&run).unwrap();
    for expected in ["A better name", ">keep</span>", "why\nit was run", ">verified<", "7 files were compared"] {
        assert!(page.contains(expected), "{expected}");
    }
    let telemetry = section(&page, "telemetry");
    assert!(telemetry.contains("csv</td>") && telemetry.contains("disk full") && telemetry.contains("1 values"), "{telemetry}");
    assert!(section(&page, "events").contains("off from here on"));
    let checkpoints = section(&page, "checkpoints");
    assert!(checkpoints.contains("latest") && checkpoints.contains("best by validation/loss: 4.053"), "{checkpoints}");
    assert!(section(&page, "data").contains("1,073,635"));
    // What is handed in counts more than what was kept.
    let bad = VerifyRecord::new(7, vec!["`metrics.csv` differs".to_owned()], Timestamp(5000));
    let page = render_with(&run, ReportOptions { verdict: Some(&bad) }).unwrap();
    assert!(page.contains(">differs<") && section(&page, "verification").contains("1 thing is not what they were."));
    // A run that went on after it was looked at is not called verified.
    VerifyRecord::new(7, Vec::new(), Timestamp(0)).keep(&run).unwrap();
    assert!(render(&run).unwrap().contains(">verified before it went on<"));
}

#[test]
fn a_page_stays_below_two_megabytes_whatever_the_run_wrote() {
    let root = tempfile::tempdir().unwrap();
    let nasty = "<\"&'>".repeat(2000);
    let run = run_in(root.path(), &nasty);
    let mut lines = String::new();
    for step in 0..40_000_u64 {
        let value = if step == 31_234 { 77.0 } else { (step as f64 / 500.0).sin() };
        for metric in ["loss", "grad_norm", "tokens_per_second", "learning_rate"] {
            lines += &line(step, "train", metric, value + 2.0);
        }
    }
    for set in 0..60 {
        for step in 0..200 {
            lines += &line(step * 200, &format!("validation/{set}-{}", &nasty[..100]), "loss", 3.0 + f64::from(set) + step as f64);
        }
    }
    for metric in 0..400 {
        lines += &line(1, "train", &format!("m{metric}"), 1.0);
    }
    run.write_text("metrics.ndjson", &lines).unwrap();
    let event = |kind: &str, step: usize| {
        serde_json::to_string(&Event::new(
            Timestamp(0),
            Level::Warn,
            kind,
            &nasty,
            json!({ "step": step, "text": nasty, "prompt": nasty, "component": format!("{step}{nasty}") }),
        ))
        .unwrap()
            + "\n"
    };
    let events: String = (0..600).map(|idx| event(["sample", "degraded", "checkpoint"][idx % 3], idx)).collect();
    run.write_text("events.ndjson", &events).unwrap();
    let value = toml::Value::from(&nasty[..500]);
    let config: toml::Table = (0..2000).map(|idx| (format!("k{idx}"), value.clone())).collect();
    run.write_text("config.resolved.toml", &config.to_string()).unwrap();
    let sources: serde_json::Map<String, Value> =
        (0..2000).map(|idx| (format!("k{idx}"), json!({ "layer": "file", "path": nasty }))).collect();
    run.write_json("config.sources.json", &sources).unwrap();
    let environment: serde_json::Map<String, Value> = (0..2000).map(|idx| (format!("e{idx}"), json!(nasty))).collect();
    run.write_json("environment.json", &environment).unwrap();
    let data: Vec<Value> =
        (0..2000).map(|idx| json!({ "path": format!("{idx}{nasty}"), "bytes": 1, "blake3": Digest::of_bytes(b"") })).collect();
    run.write_json("dataset_checksums.json", &json!({ "schema": 1, "sources": data })).unwrap();
    VerifyRecord::new(1, vec![nasty.clone(); 100], Timestamp(9000)).keep(&run).unwrap();
    let page = render(&run).unwrap();
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    assert!(
        page.contains("are left out of this page") && page.contains("more than 256 curves") && page.contains("48 more validation sets")
    );
    assert!(page.contains("mean of"), "a long curve is drawn as its mean");
    // The one spike of forty thousand values is in the picture: the greatest value is what the axis reaches to.
    assert!(section(&page, "curves").contains(">80<"), "the axis reaches the spike");
}

/// Whether every `<` of the page begins an element that this program writes, and nothing can run.
fn is_whole(page: &str) -> Result<(), String> {
    const TAGS: [&str; 46] = [
        "!doctype",
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "nav",
        "section",
        "footer",
        "aside",
        "article",
        "div",
        "p",
        "h1",
        "h2",
        "h3",
        "a",
        "ul",
        "li",
        "dl",
        "dt",
        "dd",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code",
        "time",
        "span",
        "small",
        "strong",
        "b",
        "i",
        "figure",
        "figcaption",
        "details",
        "summary",
        "rect",
        "svg",
        "path",
        "circle",
    ];
    let mut depth = 0_i64;
    for part in page.split('<').skip(1) {
        let name: String = part.trim_start_matches('/').chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '!').collect();
        if !TAGS.contains(&name.as_str()) && name != "text" {
            return Err(part.chars().take(60).collect());
        }
        if !["!doctype", "meta"].contains(&name.as_str()) && !part.split('>').next().is_some_and(|tag| tag.ends_with('/')) {
            depth += if part.starts_with('/') { -1 } else { 1 };
        }
        let tag = part.split('>').next().unwrap_or_default();
        if name != "!doctype" && !part.starts_with('/') && !has_whole_attributes(&tag[name.len()..]) {
            return Err(tag.to_owned());
        }
    }
    if depth != 0 || page.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(format!("{depth} elements are not closed, or a control character is left"));
    }
    Ok(())
}

/// Whether this is nothing but ` name="value"`, over and over.
fn has_whole_attributes(mut rest: &str) -> bool {
    while !rest.is_empty() && rest != "/" {
        let Some((name, behind)) = rest.split_once("=\"") else { return false };
        let is_name = name.strip_prefix(' ').is_some_and(|name| name.chars().all(|c| c.is_ascii_alphabetic() || c == '-'));
        let Some((_, behind)) = behind.split_once('"').filter(|_| is_name && !name.starts_with(" on")) else { return false };
        rest = behind;
    }
    true
}

fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("</script><script>alert(1)</script>".to_owned()),
        Just("\"' onload=alert(1) x='\"".to_owned()),
        Just("\u{0}\u{1b}[31m\u{202e}\u{2028}\r\n".to_owned()),
        Just("]]><!--</style></title></svg>".to_owned()),
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_text_of_a_run_gets_out_of_its_place(a in nasty(), b in nasty(), number: f64) {
        let root = tempfile::tempdir().unwrap();
        let run = run_in(root.path(), &a);
        let mut record = RunRecord::read(&run).unwrap();
        record.tags = vec![b.clone(), a.clone()];
        record.note = Some(a.clone());
        record.error = Some(b.clone());
        record.started.clone_from(&a);
        record.finished = Some(b.clone());
        record.summary.insert("validation/loss".to_owned(), number);
        record.write(&run).unwrap();
        let metric = |step: u64, split: &str| json!({ "step": step, "split": split, "metric": "loss", "value": 1.5, "dataset": b }).to_string() + "\n";
        run.write_text("metrics.ndjson", &(metric(1, &format!("validation/{a}")) + &metric(2, &b) + &metric(3, "train"))).unwrap();
        let mut event = Event::new(Timestamp(0), Level::Error, &a, &b, json!({ "x": a, &b: a }));
        event.ts.clone_from(&a);
        let degraded = Event::new(Timestamp(0), Level::Warn, "degraded", &a, json!({ "component": a, "reason": b }));
        let sample = Event::new(Timestamp(0), Level::Info, "sample", "", json!({ "step": 1, "prompt": a, "text": b }));
        let events: String = [event, degraded, sample].iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
        run.write_text("events.ndjson", &events).unwrap();
        let mut table = toml::Table::new();
        table.insert(a.clone(), toml::Value::String(b.clone()));
        run.write_text("config.resolved.toml", &table.to_string()).unwrap();
        run.write_json("config.sources.json", &json!({ &a: { "layer": b, "path": a } })).unwrap();
        run.write_json("environment.json", &json!({ &a: b, "memory_total_bytes": a })).unwrap();
        run.write_json("data.manifest.json", &json!({ "splits": { &a: { "count": 1 } } })).unwrap();
        run.write_json("dataset_checksums.json", &json!({ "schema": 1, "sources": [{ "path": a, "bytes": 1, "blake3": Digest::of_bytes(b"") }] })).unwrap();
        VerifyRecord::new(1, vec![a.clone(), b.clone()], Timestamp(0)).keep(&run).unwrap();
        let page = render(&run).unwrap();
        prop_assert_eq!(is_whole(&page), Ok(()));
        let axes = SweepAxes { parameters: vec![a.clone(), b.clone()], log_parameters: Vec::new(), metric: a.clone(), direction: Direction::Max };
        let trial = SweepTrial { name: b.clone(), state: a.clone(), values: vec![SweepValue::Category(b), SweepValue::Number(number)], metric: Some(number) };
        prop_assert_eq!(is_whole(&sweep_page(&a, &axes, &[trial])), Ok(()));
    }
}
