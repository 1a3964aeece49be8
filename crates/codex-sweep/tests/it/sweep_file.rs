//! What a sweep file may say, and what is said of one that is wrong.

use std::path::Path;

use codex_core::Failure as _;
use codex_sweep::{Domain, Goal, LauncherConfig, Strategy, Sweep, SweepConfig, SweepError, Value};
use proptest::prelude::*;

/// What is said of a text, `line: key: message / hint` for each problem.
fn told(text: &str) -> Vec<String> {
    let Err(problems) = SweepConfig::parse(text.as_bytes()) else { return Vec::new() };
    let line = |problem: &codex_sweep::Problem| {
        let hint = problem.hint.as_ref().map(|hint| format!(" / {hint}")).unwrap_or_default();
        format!("{}: {}: {}{hint}", problem.line, problem.key, problem.message)
    };
    problems.iter().map(line).collect()
}

const HEAD: &str = "name = \"s\"\nstrategy = \"grid\"\nmetric = \"loss\"\n";

#[test]
fn every_key_is_read() {
    let text = r#"
name = "rates-2"
base = "../base.toml"
overrides = ["model=small", "train.steps=100"]
strategy = "random"
n_trials = 20
seed = 7
metric = "validation/loss"
goal = "maximize"
parallel = 4

[space]
"train.learning_rate" = { min = 1e-5, max = 1e-1, scale = "log" }
train.batch_size = [8, 16]
model = { n_layers = [1, 2] }
train.weight_decay = { min = 0, max = 1, int = false }
train.warmup_steps = { min = 0, max = 100, step = 10 }
train.optimizer = { choices = ["adamw", "muon"] }

[space.train.dropout]
min = 0.0
max = 0.5

[stopping]
strategy = "median"
warmup_steps = 100
min_trials = 5
every_steps = 50

[launcher]
kind = "slurm"
partition = "gpu"
time = "04:00:00"
gpus = "a100:1"
cpus = 8
memory = "16G"
max_parallel = 10
extra = ["--account=lab"]

[optuna]
program = "/opt/optuna"
storage = "sqlite"
sampler = "RandomSampler"
"#;
    let config = SweepConfig::parse(text.as_bytes()).unwrap();
    assert_eq!((config.strategy, config.n_trials, config.seed, config.goal), (Strategy::Random, Some(20), 7, Goal::Maximize));
    let keys: Vec<&str> = config.space.iter().map(|parameter| parameter.key.as_str()).collect();
    let expected = [
        "train.learning_rate",
        "train.batch_size",
        "model.n_layers",
        "train.weight_decay",
        "train.warmup_steps",
        "train.optimizer",
        "train.dropout",
    ];
    assert_eq!(keys, expected, "in the order of the file");
    assert_eq!(config.space[0].domain, Domain::Floats { min: 1e-5, max: 1e-1, step: None, is_log: true });
    assert_eq!(config.space[3].domain, Domain::Floats { min: 0.0, max: 1.0, step: None, is_log: false });
    assert_eq!(config.space[4].domain, Domain::Integers { min: 0, max: 100, step: Some(10), is_log: false });
    assert_eq!(config.space[5].domain, Domain::Values(vec![Value::Text("adamw".into()), Value::Text("muon".into())]));
    let stopping = config.stopping.unwrap();
    assert_eq!((stopping.warmup_steps, stopping.min_trials, stopping.every_steps), (100, 5, 50));
    let LauncherConfig::Slurm(slurm) = config.launcher else { panic!("{:?}", config.launcher) };
    assert_eq!((slurm.cpus, slurm.max_parallel, slurm.max_array_size), (Some(8), Some(10), 1001));
    assert!(config.optuna.is_sqlite && config.optuna.program == "/opt/optuna");
}

#[test]
fn every_problem_is_told_at_its_line_with_the_nearest_key() {
    let text = "nam = \"x\"\nstrategy = \"gird\"\nmetric = 3\nparalel = 2\n[space]\nx = []\ny = 5\nz = { min = 2, max = 1 }\n\
        w = { min = 1.0, max = 2.0, scale = \"lug\", stp = 1 }\n[stopping]\nstrategy = \"median\"\nwarmup = 3\n[launcher]\nkind = \"slrm\"\n";
    let expected = [
        "1: name: this key is missing",
        "1: nam: unknown key / did you mean `name`?",
        "2: strategy: unknown value `gird`; expected one of `grid`, `random`, `paired` and `optuna` / did you mean `grid`?",
        "3: metric: expected a text in quotes, found `3`",
        "4: paralel: unknown key / did you mean `parallel`?",
        "6: space.x: an empty list leaves nothing to try",
        "7: space.y: expected a list of values or a range, found `5` / write `[1, 2, 3]`, `{ min = 1e-4, max = 1e-2, scale = \"log\" }`, \
         or move a fixed value to `overrides`",
        "8: space.z: `min` is not below `max`",
        "9: space.w.scale: unknown value `lug`; expected one of `linear` and `log` / did you mean `log`?",
        "9: space.w.stp: unknown key / did you mean `step`?",
        "12: stopping.warmup: unknown key / known keys here: `strategy`, `warmup_steps`, `min_trials` and `every_steps`",
        "14: launcher.kind: unknown value `slrm`; expected one of `local`, `slurm`, `kubernetes` and `ray` / did you mean `slurm`?",
    ];
    assert_eq!(told(text), expected);
}

#[test]
fn what_cannot_be_run_is_refused() {
    let cases = [
        ("[space]\na = { min = 0.0, max = 1.0 }", "5: space.a: a grid over a range needs a `step`"),
        ("[space]\na = { min = 1, max = 9, step = 1, scale = \"log\" }", "a range has a step or the scale `log`, not both"),
        ("[space]\na = { min = 0, max = 9, scale = \"log\" }", "with the scale `log`, `min` is above 0"),
        ("[space]\na = { min = 0.5, max = 9, int = true }", "a range of whole numbers has whole ends"),
        ("[space]\na = { min = 0.0, max = 1e300, step = 1e-14 }", "5: space.a: the range has too many steps"),
        ("[space]\na = { min = -1e308, max = 1e308 }", "5: space.a: the range is too wide"),
        ("[space]\na = { min = 1 }", "5: space.a.max: a range needs this key"),
        ("[space]\na = { choice = [1] }", "5: space.a.choice: unknown key / did you mean `choices`?"),
        ("[space]\na = [1979-05-27]", "a date or time is no value of a configuration"),
        ("[space]\na = [nan]", "a number without end is no value"),
        ("[space]\na = [1]\n\"a\" = [2]", "this is not TOML"),
        ("[space]\nt.a = [1]\n\"t.a\" = [2]", "6: space.t.a: set twice, first on line 5"),
        ("[space]\n\"run.folder\" = [\"x\"]", "5: space.run.folder: this key is set by the sweep"),
        ("[space]\n\"a b\" = [1]", "this is no key of a configuration"),
        ("[space]\n\"--fresh\" = [1]", "this is no key of a configuration"),
        ("overrides = [\"a=1\"]\n[space]\na = [1]", "4: overrides: `a` is set for every trial, and tried on line 6"),
        ("overrides = [\"--fresh\"]\n[space]\na = [1]", "4: overrides: the text `--fresh` is no `key=value`"),
        ("overrides = [\"run.folder=x\"]\n[space]\na = [1]", "`run.folder` is set by the sweep"),
        ("overrides = [\"a=1\", \"a=2\"]\n[space]\nb = [1]", "`a` is set twice"),
        ("n_trials = 4\n[space]\na = [1]", "the space itself says how many trials there are"),
        ("parallel = 0\n[space]\na = [1]", "4: parallel: expected a whole number from 1 to 10000, found `0`"),
        ("[space]\n", "4: space: there is nothing to try"),
        ("space = 3", "4: space: expected a table, found `3`"),
        ("[space]\na = [1]\n[stopping]\n", "6: stopping.strategy: this key is missing"),
    ];
    for (text, expected) in cases {
        let all = told(&format!("{HEAD}{text}"));
        assert!(all.iter().any(|line| line.contains(expected)), "{text}\n{all:#?}");
    }
    let paired = HEAD.replace("grid", "paired") + "[space]\na = [1, 2]\nb = [1]\nc = { min = 1, max = 2, step = 1 }\n";
    assert_eq!(
        told(&paired),
        [
            "6: space.b: 1 values, where `a` has 2 / lists in pairs have one length",
            "7: space.c: values in pairs are lists / list as many values as the other keys have",
        ]
    );
    let random = HEAD.replace("grid", "random") + "[space]\na = [1]\n";
    assert_eq!(told(&random), ["1: n_trials: this strategy needs to know how many trials to make"]);
}

#[test]
fn a_grid_has_a_most_and_its_product_may_not_overflow() {
    let list = |n: usize| format!("[{}]", vec!["1"; n].join(","));
    let grid = |keys: usize, n: usize| {
        let lines: Vec<String> = (0..keys).map(|key| format!("k{key} = {}", list(n))).collect();
        told(&format!("{HEAD}[space]\n{}\n", lines.join("\n")))
    };
    assert_eq!(grid(5, 10), [""; 0], "100 000 trials");
    assert_eq!(
        grid(6, 10)[0],
        "4: space: the grid has 1000000 trials, at most 100000 can be run / try fewer values, or draw some of them with `random`"
    );
    assert!(grid(70, 10)[0].starts_with("4: space: the grid has more than 2^64 trials"), "{:?}", grid(70, 10));
}

#[test]
fn names_and_launchers_hold_no_signs_of_a_shell() {
    for name in ["", "a b", "../x", "a/b", "-a", "a;rm", "A", "é", "a\\nb", "$(x)"] {
        let text = HEAD.replace("\"s\"", &format!("\"{name}\"")) + "[space]\na = [1]\n";
        assert!(!told(&text).is_empty(), "{name}");
    }
    let launcher = |lines: &str| told(&format!("{HEAD}[space]\na = [1]\n[launcher]\n{lines}"));
    for nasty in ["a b", "a\\nb", "$(touch x)", "`x`", "a;b", "a\\\"b", "a'b", "a#b", "a%b", "é", ""] {
        for key in ["partition", "time", "gpus", "memory"] {
            assert_eq!(launcher(&format!("kind = \"slurm\"\n{key} = \"{nasty}\"")).len(), 1, "{key} {nasty}");
        }
        for key in ["image", "namespace", "cpus", "memory"] {
            let image = if key == "image" { "" } else { "image = \"x\"\n" };
            assert_eq!(launcher(&format!("kind = \"kubernetes\"\n{image}{key} = \"{nasty}\"")).len(), 1, "{key} {nasty}");
        }
        assert_eq!(launcher(&format!("kind = \"ray\"\naddress = \"{nasty}\"")).len(), 1, "{nasty}");
    }
    for extra in ["account=x", "--a\\nrm -rf x", "--a\\r", "; rm", "--a\\u2028b"] {
        assert_eq!(launcher(&format!("kind = \"slurm\"\nextra = [\"{extra}\"]")).len(), 1, "{extra}");
    }
    assert_eq!(launcher("kind = \"slurm\"\nextra = [\"--account=x\", \"--comment=a b\"]"), [""; 0]);
    assert_eq!(launcher("kind = \"kubernetes\""), ["6: launcher.image: this launcher needs the image that has `codex-cli`"]);
    let volume = launcher("kind = \"kubernetes\"\nimage = \"x\"\nvolumes = [{ claim = \"A\", path = \"/a:b\" }]");
    assert_eq!(volume.len(), 2, "{volume:?}");
}

#[test]
fn the_error_has_the_path_in_front_of_each_problem() {
    let error = Sweep::from_bytes(Path::new("a/s.toml"), b"x = 1\n".to_vec()).unwrap_err();
    assert_eq!(error.exit_class().code(), 2);
    let text = error.to_string();
    assert!(text.lines().filter(|line| !line.starts_with("  hint")).all(|line| line.starts_with("a/s.toml:1: ")), "{text}");
    let error = Sweep::load(Path::new("no/such.toml")).unwrap_err();
    assert!(matches!(&error, SweepError::File(_)) && error.exit_class().code() == 5);
    let broken = Sweep::from_bytes(Path::new("s.toml"), b"name = \"a\n\xff".to_vec()).unwrap_err();
    assert_eq!(broken.to_string(), "s.toml:2: this is not UTF-8");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
        let _read = Sweep::from_bytes(Path::new("s.toml"), bytes);
    }

    #[test]
    fn any_text_of_the_right_words_is_refused_or_read(words in prop::collection::vec(prop::sample::select(vec![
        "name", "=", "\"s\"", "strategy", "\"grid\"", "\"random\"", "\"paired\"", "metric", "[space]", "[launcher]", "[stopping]", "\n", "a", ".", "{", "}",
        "min", "max", "step", "scale", "\"log\"", "int", "true", "choices", "[", "]", "1", "-1e308", "1e308", "0.1", ",", "n_trials", "kind", "\"slurm\"",
        "\"kubernetes\"", "\"ray\"", "volumes", "9223372036854775807", "-9223372036854775808", "nan", "seed", "\"a=1\"", "overrides", "base",
    ]), 0..60)) {
        let _read = Sweep::from_bytes(Path::new("s.toml"), words.join(" ").into_bytes());
    }

    #[test]
    fn any_range_is_refused_or_stays_within_its_ends(min: f64, max: f64, step: Option<f64>, is_log: bool, n in 0_usize..50) {
        let step = step.map(|step| format!(", step = {step:?}")).unwrap_or_default();
        let scale = if is_log { ", scale = \"log\"" } else { "" };
        let text = format!("name = \"s\"\nstrategy = \"random\"\nn_trials = 50\nmetric = \"m\"\n[space]\na = {{ min = {min:?}, max = {max:?}{step}{scale} }}\n");
        if let Ok(sweep) = Sweep::from_bytes(Path::new("s.toml"), text.into_bytes()) {
            let drawn = sweep.trial(n).unwrap().parameters[0].1.as_number().unwrap();
            prop_assert!(min <= drawn && drawn <= max, "{min} {drawn} {max}");
        }
    }
}
