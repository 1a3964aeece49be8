//! The functions that a value may call, as hydra-core 1.3.8 has them: casts, sweeps, and what orders and names them.
//!
//! What Hydra accepts and then cannot use is refused here: a sweep inside a sweep, a range without an end, a list shuffled by chance.

use std::collections::BTreeSet;

use crate::element::Element;
use crate::number_text::{self, python_float};
use crate::schema::list;
use crate::sweep::{Number, Sweep, SweepKind};
use crate::value_parser::Given;

/// The functions there are.
const NAMES: [&str; 11] = ["bool", "choice", "float", "glob", "int", "interval", "range", "shuffle", "sort", "str", "tag"];

/// A call as it was written.
pub(crate) struct Call<'a> {
    pub(crate) name: &'a str,
    pub(crate) args: Vec<Given>,
    pub(crate) named: Vec<(String, Given)>,
}

type Refusal = (String, Option<String>);

fn refuse<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err((message.into(), None))
}

/// What the call comes to.
pub(crate) fn call(mut call: Call<'_>) -> Result<Given, Refusal> {
    match call.name {
        "int" => cast(call, Cast::Int),
        "float" => cast(call, Cast::Float),
        "str" => cast(call, Cast::Text),
        "bool" => cast(call, Cast::Bool),
        "choice" => choice(call),
        "range" => {
            let [start, stop, step] = number_arguments(&mut call, ["start", "stop", "step"])?;
            let Some(start) = start else { return refuse("`range` takes a start, a stop and a step") };
            let (start, stop) = stop.map_or((Number::Int(0), start), |stop| (start, stop));
            Sweep::range(start, stop, step.unwrap_or(Number::Int(1))).map(Given::Sweep).or_else(refuse)
        }
        "interval" => match number_arguments(&mut call, ["start", "end"])? {
            [Some(start), Some(end)] => Ok(Given::Sweep(Sweep::of(SweepKind::Interval { start: start.to_f64(), end: end.to_f64() }))),
            _ => refuse("`interval` takes a start and an end"),
        },
        "glob" => glob(call),
        "tag" => tag(call),
        "sort" => sort(call),
        "shuffle" => shuffle(call),
        other => {
            let near = codex_core::suggest::nearest(other, NAMES).map(|near| format!("did you mean `{near}`? "));
            let hint = format!("{}functions: {}; text with `(` belongs in quotes", near.unwrap_or_default(), list(NAMES));
            Err((format!("unknown function `{other}`"), Some(hint)))
        }
    }
}

fn known_names_only(call: &Call<'_>, known: &[&str]) -> Result<(), Refusal> {
    match call.named.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => refuse(format!("`{}` has no argument `{name}`", call.name)),
        None => Ok(()),
    }
}

fn take_named(call: &mut Call<'_>, name: &str) -> Option<Given> {
    let position = call.named.iter().position(|(known, _)| known == name)?;
    Some(call.named.remove(position).1)
}

/// The numbers of these names, by place or by name.
fn number_arguments<const N: usize>(call: &mut Call<'_>, names: [&str; N]) -> Result<[Option<Number>; N], Refusal> {
    known_names_only(call, &names)?;
    if call.args.len() > N {
        return refuse(format!("`{}` takes {N} values at most", call.name));
    }
    let mut found = [None; N];
    let args = std::mem::take(&mut call.args);
    for (n, given) in args.into_iter().enumerate() {
        found[n] = Some(number(call.name, given)?);
    }
    for (n, name) in names.into_iter().enumerate() {
        if let Some(given) = take_named(call, name) {
            if found[n].is_some() {
                return refuse(format!("`{name}` is given twice"));
            }
            found[n] = Some(number(call.name, given)?);
        }
    }
    Ok(found)
}

fn number(function: &str, given: Given) -> Result<Number, Refusal> {
    match given {
        Given::Element(Element::Int(whole)) => Ok(Number::Int(whole)),
        Given::Element(Element::Float(float)) => Ok(Number::Float(float)),
        Given::Element(other) => refuse(format!("`{function}` takes numbers, found {}", other.kind())),
        Given::Sweep(_) => refuse(format!("`{function}` takes numbers, found a sweep")),
    }
}

fn elements(function: &str, args: Vec<Given>) -> Result<Vec<Element>, Refusal> {
    let element = |given| match given {
        Given::Element(element) => Ok(element),
        Given::Sweep(_) => refuse(format!("`{function}` takes one sweep or several values, found a sweep among others")),
    };
    args.into_iter().map(element).collect()
}

#[derive(Clone, Copy)]
enum Cast {
    Int,
    Float,
    Text,
    Bool,
}

/// Several values are a choice of them; lists, tables and sweeps are cast value by value.
fn cast(mut call: Call<'_>, to: Cast) -> Result<Given, Refusal> {
    known_names_only(&call, &["value"])?;
    if let Some(value) = take_named(&mut call, "value") {
        if !call.args.is_empty() {
            return refuse(format!("`{}` takes values by place or by name, not both", call.name));
        }
        call.args.push(value);
    }
    let given = match call.args.len() {
        0 => return refuse(format!("`{}` takes a value", call.name)),
        1 => call.args.remove(0),
        _ => Given::Sweep(Sweep::choice(elements(call.name, call.args)?, true)),
    };
    let Given::Sweep(mut sweep) = given else {
        let Given::Element(element) = given else { return refuse("nothing to cast") };
        return cast_element(element, to).map(Given::Element);
    };
    let cast_number = |number: Number| match (to, number) {
        (Cast::Int, Number::Int(_)) => Ok(number),
        (Cast::Int, Number::Float(float)) => whole(float).map(Number::Int),
        _ => Ok(Number::Float(number.to_f64())),
    };
    let is_numeric = matches!(to, Cast::Int | Cast::Float);
    sweep.kind = match sweep.kind {
        SweepKind::Choice { items, simple } => {
            SweepKind::Choice { items: items.into_iter().map(|item| cast_element(item, to)).collect::<Result<_, _>>()?, simple }
        }
        SweepKind::Range { start, stop, step } if is_numeric => {
            Sweep::range(cast_number(start)?, cast_number(stop)?, cast_number(step)?).or_else(refuse)?.kind
        }
        SweepKind::Interval { start, end } if is_numeric => {
            let bound = |bound| cast_number(Number::Float(bound)).map(Number::to_f64);
            SweepKind::Interval { start: bound(start)?, end: bound(end)? }
        }
        _ => return refuse(format!("`{}` cannot be cast so: only a choice of values can", call.name)),
    };
    Ok(Given::Sweep(sweep))
}

fn whole(float: f64) -> Result<i64, Refusal> {
    let cut = float.trunc();
    if cut.is_finite() && cut.abs() < 9.0e18 { Ok(cut as i64) } else { refuse(format!("`{float}` is no integer of 64 bits")) }
}

fn cast_element(element: Element, to: Cast) -> Result<Element, Refusal> {
    match element {
        Element::List(items) => items.into_iter().map(|item| cast_element(item, to)).collect::<Result<_, _>>().map(Element::List),
        Element::Dict(entries) => {
            let entry = |(key, value)| Ok((key, cast_element(value, to)?));
            entries.into_iter().map(entry).collect::<Result<_, _>>().map(Element::Dict)
        }
        Element::Null if matches!(to, Cast::Bool) => Ok(Element::Bool(false)),
        Element::Null => refuse("`null` cannot be cast"),
        other => match to {
            Cast::Int => to_int(other),
            Cast::Float => to_float(other),
            Cast::Text => Ok(Element::Text(to_text(other))),
            Cast::Bool => to_bool(other),
        },
    }
}

fn to_int(element: Element) -> Result<Element, Refusal> {
    match element {
        Element::Bool(yes) => Ok(Element::Int(i64::from(yes))),
        Element::Float(float) => whole(float).map(Element::Int),
        Element::Text(text) => match number_text::literal(text.trim()) {
            Some(Element::Int(number)) => Ok(Element::Int(number)),
            _ => text.trim().parse().map(Element::Int).or_else(|_| refuse(format!("`{text}` is no integer"))),
        },
        other => Ok(other),
    }
}

fn to_float(element: Element) -> Result<Element, Refusal> {
    match element {
        Element::Bool(yes) => Ok(Element::Float(f64::from(u8::from(yes)))),
        Element::Int(number) => Ok(Element::Float(number as f64)),
        Element::Text(text) => match number_text::literal(text.trim()) {
            Some(Element::Int(number)) => Ok(Element::Float(number as f64)),
            Some(Element::Float(float)) => Ok(Element::Float(float)),
            _ => text.trim().parse().map(Element::Float).or_else(|_| refuse(format!("`{text}` is no number"))),
        },
        other => Ok(other),
    }
}

fn to_text(element: Element) -> String {
    match element {
        Element::Float(float) => python_float(float),
        Element::Text(text) => text,
        other => other.to_string(),
    }
}

fn to_bool(element: Element) -> Result<Element, Refusal> {
    match element {
        Element::Int(number) => Ok(Element::Bool(number != 0)),
        Element::Float(float) => Ok(Element::Bool(float != 0.0)),
        Element::Text(text) => match text.to_lowercase().as_str() {
            "true" => Ok(Element::Bool(true)),
            "false" => Ok(Element::Bool(false)),
            _ => refuse(format!("`{text}` is neither `true` nor `false`")),
        },
        other => Ok(other),
    }
}

fn choice(mut call: Call<'_>) -> Result<Given, Refusal> {
    known_names_only(&call, &[])?;
    match call.args.as_mut_slice() {
        [] => refuse("a choice of nothing"),
        [Given::Sweep(Sweep { kind: SweepKind::Choice { simple, .. }, .. })] if *simple => {
            *simple = false;
            Ok(call.args.remove(0))
        }
        _ => Ok(Given::Sweep(Sweep::choice(elements("choice", call.args)?, false))),
    }
}

fn glob(mut call: Call<'_>) -> Result<Given, Refusal> {
    known_names_only(&call, &["include", "exclude"])?;
    if call.args.len() > 2 {
        return refuse("`glob` takes patterns to include and to exclude");
    }
    let mut args = std::mem::take(&mut call.args).into_iter();
    let mut patterns = |name: &str| {
        let given = match (args.next(), take_named(&mut call, name)) {
            (Some(_), Some(_)) => return refuse(format!("`{name}` is given twice")),
            (by_place, by_name) => by_place.or(by_name),
        };
        match given {
            None => Ok(None),
            Some(Given::Element(Element::Text(text))) => Ok(Some(vec![text])),
            Some(Given::Element(Element::List(items))) => {
                let text = |item| match item {
                    Element::Text(text) => Ok(text),
                    other => refuse(format!("`glob` takes patterns, found {}", other.kind())),
                };
                items.into_iter().map(text).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => refuse("`glob` takes a pattern or a list of patterns"),
        }
    };
    let Some(include) = patterns("include")? else { return refuse("`glob` takes a pattern, as in `glob(*)`") };
    let exclude = patterns("exclude")?.unwrap_or_default();
    Ok(Given::Sweep(Sweep::of(SweepKind::Glob { include, exclude })))
}

fn tag(mut call: Call<'_>) -> Result<Given, Refusal> {
    known_names_only(&call, &["sweep"])?;
    let sweep = take_named(&mut call, "sweep").or_else(|| call.args.pop());
    let Some(Given::Sweep(mut sweep)) = sweep else { return refuse("`tag` takes names and then a sweep") };
    let mut tags = BTreeSet::new();
    for element in elements("tag", call.args)? {
        let Element::Text(text) = element else { return refuse(format!("a tag is a string, found {}", element.kind())) };
        tags.insert(text);
    }
    sweep.tags = tags;
    if let SweepKind::Choice { simple, .. } = &mut sweep.kind {
        *simple = false;
    }
    Ok(Given::Sweep(sweep))
}

/// One list or sweep, or several values that become a choice.
fn one_or_several(call: &mut Call<'_>) -> Result<Given, Refusal> {
    let named = take_named(call, "sweep").or_else(|| take_named(call, "list"));
    if named.is_some() && !call.args.is_empty() {
        return refuse(format!("`{}` takes values by place or by name, not both", call.name));
    }
    let mut args = std::mem::take(&mut call.args);
    args.extend(named);
    match args.len() {
        0 => refuse(format!("`{}` of nothing", call.name)),
        1 => Ok(args.remove(0)),
        _ => Ok(Given::Sweep(Sweep::choice(elements(call.name, args)?, true))),
    }
}

fn sort(mut call: Call<'_>) -> Result<Given, Refusal> {
    known_names_only(&call, &["sweep", "list", "reverse"])?;
    let reverse = match take_named(&mut call, "reverse") {
        None => false,
        Some(Given::Element(Element::Bool(yes))) => yes,
        Some(_) => return refuse("`reverse` is `true` or `false`"),
    };
    match one_or_several(&mut call)? {
        Given::Element(Element::List(items)) => sorted(items, reverse).map(|items| Given::Element(Element::List(items))),
        Given::Element(element) => Ok(Given::Element(element)),
        Given::Sweep(mut sweep) => {
            sweep.kind = match sweep.kind {
                SweepKind::Choice { items, simple } => SweepKind::Choice { items: sorted(items, reverse)?, simple },
                SweepKind::Range { start, stop, step } => Sweep::sorted_range(start, stop, step, reverse).or_else(refuse)?.kind,
                SweepKind::Interval { .. } | SweepKind::Glob { .. } => return refuse("`sort` takes a choice, a range or a list"),
            };
            Ok(Given::Sweep(sweep))
        }
    }
}

fn sorted(mut items: Vec<Element>, reverse: bool) -> Result<Vec<Element>, Refusal> {
    let number = |item: &Element| match item {
        Element::Bool(yes) => Some(f64::from(u8::from(*yes))),
        Element::Int(number) => Some(*number as f64),
        Element::Float(number) => Some(*number),
        _ => None,
    };
    if items.iter().all(|item| matches!(item, Element::Int(_))) {
        items.sort_by_key(|item| if let Element::Int(number) = item { *number } else { 0 });
    } else if items.iter().all(|item| number(item).is_some()) {
        items.sort_by(|a, b| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)));
    } else if items.iter().all(|item| matches!(item, Element::Text(_))) {
        items.sort_by(|a, b| match (a, b) {
            (Element::Text(a), Element::Text(b)) => a.cmp(b),
            _ => std::cmp::Ordering::Equal,
        });
    } else {
        return refuse("`sort` takes numbers or strings, not both");
    }
    if reverse {
        items.reverse();
    }
    Ok(items)
}

fn shuffle(mut call: Call<'_>) -> Result<Given, Refusal> {
    known_names_only(&call, &["sweep", "list"])?;
    match one_or_several(&mut call)? {
        Given::Sweep(sweep) if matches!(sweep.kind, SweepKind::Choice { .. } | SweepKind::Range { .. }) => {
            Ok(Given::Sweep(Sweep { shuffle: true, ..sweep }))
        }
        Given::Sweep(_) => refuse("`shuffle` takes a choice or a range"),
        Given::Element(_) => {
            let hint = "a run is to be repeatable: write the order down, or sweep over `shuffle(a, b)`";
            Err(("`shuffle` of one value would set it by chance".to_owned(), Some(hint.to_owned())))
        }
    }
}
