//! Overrides of several values as lists of overrides of one.

use std::collections::BTreeSet;

use codex_config::Layers;
use codex_config::sweep::{self, Expansion};
use insta::assert_snapshot;

use crate::{LIBRARY, TestConfig};

fn arguments(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn runs(texts: &[&str]) -> Vec<String> {
    let runs = sweep::expand(&arguments(texts), 100).unwrap_or_else(|error| panic!("{error}"));
    runs.into_iter().map(|run| run.join(" ")).collect()
}

fn message(texts: &[&str]) -> String {
    sweep::expand(&arguments(texts), 4).unwrap_err().to_string()
}

#[test]
fn the_last_key_is_the_fastest() {
    let expected = ["seed=1 name=x model=tiny", "seed=1 name=x model=small", "seed=2 name=x model=tiny", "seed=2 name=x model=small"];
    assert_eq!(runs(&["seed=1,2", "name=x", "model=tiny,small"]), expected);
    assert_eq!(
        runs(&["seed=1", "~train.note"]),
        ["seed=1 ~train.note"],
        "without a sweep there is one run, and its arguments are as they were typed"
    );
    assert_eq!(runs(&[]), [""]);
}

#[test]
fn each_form_of_a_sweep() {
    assert_eq!(runs(&["a=range(0,1,0.25)"]), ["a=0.0", "a=0.25", "a=0.5", "a=0.75"]);
    assert_eq!(runs(&["a=range(0,0.7,0.1)"]).last().unwrap(), "a=0.6", "the end is no value, whatever the sum of floats is");
    assert_eq!(runs(&["a=range(3,0,-1)"]), ["a=3", "a=2", "a=1"]);
    assert_eq!(runs(&["+a.b=choice('x y',null,[1,2],{k:'3'})"]), ["+a.b='x y'", "+a.b=null", "+a.b=[1,2]", "+a.b={k:'3'}"]);
    assert_eq!(runs(&["a=sort(3,1,2,reverse=true)"]), ["a=3", "a=2", "a=1"]);
    assert_eq!(runs(&["a=str(1,2)"]), ["a='1'", "a='2'"], "still strings when they are read again");
    assert_eq!(runs(&["a=tag(x,choice(1,2))"]), ["a=1", "a=2"]);
}

#[test]
fn a_glob_takes_the_options_of_a_group() {
    let layers = Layers::<TestConfig>::new(LIBRARY);
    let expand = |text: &str| {
        let lists = Expansion::new(10).options(|group| layers.options(group)).expand(&arguments(&[text])).unwrap();
        lists.into_iter().map(|run| run.join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(expand("model=glob(*)"), ["model=small", "model=tiny"]);
    assert_eq!(expand("model=glob(*,exclude=t*)"), ["model=small"]);
    let none = Expansion::new(10).options(|_| BTreeSet::new()).expand(&arguments(&["model=glob(*)"])).unwrap_err();
    assert!(none.to_string().contains("a sweep over nothing"), "{none}");
}

#[test]
fn a_shuffle_is_decided_by_the_seed() {
    let shuffled = |seed: u64, text: &str| Expansion::new(100).seed(seed).expand(&arguments(&[text])).unwrap().concat();
    let (first, again, other) =
        (shuffled(1, "a=shuffle(range(20))"), shuffled(1, "a=shuffle(range(20))"), shuffled(2, "a=shuffle(range(20))"));
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert_ne!(first, shuffled(1, "b=shuffle(range(20))").into_iter().map(|text| text.replace("b=", "a=")).collect::<Vec<_>>());
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(first), sorted(runs(&["a=range(20)"])));
}

#[test]
fn each_run_is_resolved_alone() {
    let lists = sweep::expand(&arguments(&["model=tiny,small", "train.max_steps=range(1,3)"]), 10).unwrap();
    let found: Vec<_> = lists
        .iter()
        .map(|run| Layers::<TestConfig>::new(LIBRARY).base("default").overrides(run).resolve().unwrap().value)
        .map(|value| (value.model.d_model, value.train.max_steps))
        .collect();
    assert_eq!(found, [(32, 1), (32, 2), (128, 1), (128, 2)]);
}

#[test]
fn the_axes_of_a_sweep() {
    let plan = sweep::parse(&arguments(&["seed=3", "++model=tag(size,choice(tiny,small))", "train.learning_rate=interval(0,1)"])).unwrap();
    assert_eq!(plan.fixed, [(0, "seed=3".to_owned())]);
    assert_eq!(
        plan.axes.iter().map(|axis| (axis.position, axis.key.as_str())).collect::<Vec<_>>(),
        [(1, "++model"), (2, "train.learning_rate")]
    );
    assert!(plan.axes[0].sweep.tags.contains("size"));
}

#[test]
fn what_cannot_be_expanded() {
    assert_snapshot!(message(&["a=interval(0,1)", "model=glob(*)", "b=shuffle(1,2)"]), @r#"
    argument `a=interval(0,1)`: `a`: an interval has no list of values
          | a=interval(0,1)
          |   ^^^^^^^^^^^^^
      hint: write `range(start,stop,step)`, or use a sampler
    argument `model=glob(*)`: `model`: `glob` is for the options of a group
          | model=glob(*)
          |       ^^^^^^^
      hint: write it as `group=glob(*)`
    argument `b=shuffle(1,2)`: `b`: `shuffle` needs a seed
          | b=shuffle(1,2)
          |   ^^^^^^^^^^^^
      hint: write the order down
    "#);
    assert_snapshot!(message(&["a=1,2,3", "b=1,2"]), @r#"
    argument `b=1,2`: the sweep has more than 4 runs
          | b=1,2
          |   ^^^
      hint: take values out, or raise the limit
    "#);
    assert_snapshot!(message(&["a=1", "a=1,2", "b=", "c"]), @r#"
    argument `a=1,2`: `a`: set twice, first by argument `a=1`
          | a=1,2
          |   ^^^
      hint: keep one of the two
    argument `c`: expected `key=value`
          | c
          |  ^
      hint: a key is names joined by dots, as in `train.learning_rate=3e-4`; `~key` takes a value away
    "#);
    assert_snapshot!(message(&["a=range(0,10001)", "b=range(1,0,0)", "c=range(0,1e300)", "d=range(nan)"]), @r#"
    argument `a=range(0,10001)`: a range of more than 10000 values
          | a=range(0,10001)
          |   ^^^^^^^^^^^^^^
    argument `b=range(1,0,0)`: the step of a range is not 0
          | b=range(1,0,0)
          |   ^^^^^^^^^^^^
    argument `c=range(0,1e300)`: a range of more than 10000 values
          | c=range(0,1e300)
          |   ^^^^^^^^^^^^^^
    argument `d=range(nan)`: the numbers of a range are finite
          | d=range(nan)
          |   ^^^^^^^^^^
    "#);
    let wide: Vec<String> = (0..80).map(|n| format!("k{n}=1,2,3")).collect();
    assert!(sweep::expand(&wide, usize::MAX).unwrap_err().to_string().contains("more than"));
}
