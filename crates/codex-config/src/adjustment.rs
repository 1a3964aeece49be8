//! The command line's changes, applied to the layers below: what is set is checked to be there, what is added not to be, what is deleted is
//! taken out of every layer.

use std::collections::BTreeSet;

use figment::value::{Dict, Tag, Value};

use crate::argument::{Change, Choice, problem, set_element, value_of};
use crate::assignment::Action;
use crate::element::Element;
use crate::error::{LocatedProblem, Mark};
use crate::key::dotted;
use crate::layer::{Layer, at, remove, untagged};
use crate::schema::{Known, list};
use crate::source::Source;
use crate::typing::Merged;

/// The layer that the changes make above these layers, from which deleted values are taken out.
pub(crate) fn layer(changes: &[Change], layers: &mut [Layer], defaults: &Dict, known: &Known, problems: &mut Vec<LocatedProblem>) -> Layer {
    let mut top = Layer::default();
    for change in changes.iter().filter(|change| change.action == Action::Delete) {
        problems.extend(delete(change, layers, defaults).err().map(|problem| *problem));
    }
    let merged = Merged::of(defaults, layers).values;
    for change in changes.iter().filter(|change| change.action != Action::Delete) {
        let Some(element) = &change.element else { continue };
        problems.extend(set(change, element, &mut top, layers, &merged, known).err().map(|problem| *problem));
    }
    top
}

/// What a choice of the command line comes to.
pub(crate) enum Verdict {
    /// Its option is loaded.
    Take,
    /// What texts chose is left out.
    Drop,
    /// No text chose an option: the values of the table are meant.
    DropTable,
}

/// Judges a choice by the options that texts chose for its group.
pub(crate) fn judged(choice: &Choice, chosen: &BTreeSet<String>) -> Result<Verdict, Box<LocatedProblem>> {
    let group = &choice.wanted.group;
    let refused = |message: String, hint: String| {
        Err(Box::new(LocatedProblem::new(choice.place.clone(), group.clone(), message, Some(hint)).at(Mark::Key)))
    };
    match (choice.action, &choice.wanted.option) {
        (Action::Delete, _) if chosen.is_empty() => Ok(Verdict::DropTable),
        (Action::Delete, Some(option)) if !chosen.contains(option) => {
            refused(format!("not dropped, since the option is {}", list(chosen.iter().map(String::as_str))), format!("write `~{group}`"))
        }
        (Action::Delete, _) | (_, None) => Ok(Verdict::Drop),
        (Action::Add, Some(option)) if !chosen.is_empty() => {
            let hint = format!("write `{group}={option}` to choose another, or `++{group}={option}` to choose either way");
            refused(format!("an option is chosen already: {}", list(chosen.iter().map(String::as_str))), hint)
        }
        (_, Some(_)) => Ok(Verdict::Take),
    }
}

/// Deletes the values of a table whose name no text chose a group by; `~model` means both.
pub(crate) fn drop_table(choice: &Choice, layers: &mut [Layer], defaults: &Dict) -> Result<(), Box<LocatedProblem>> {
    let Some(path) = choice.path.clone() else {
        let message = format!("no text chose an option for `{}`", choice.wanted.group);
        return Err(Box::new(LocatedProblem::new(choice.place.clone(), choice.wanted.group.clone(), message, None).at(Mark::Key)));
    };
    let element = choice.wanted.option.clone().map(Element::Text);
    delete(&Change { action: Action::Delete, path, element, text: String::new(), place: choice.place.clone() }, layers, defaults)
}

/// Whether a layer sets something at this path or below.
fn sets(layer: &Layer, path: &[String]) -> bool {
    at(&layer.values, path).is_some()
}

fn delete(change: &Change, layers: &mut [Layer], defaults: &Dict) -> Result<(), Box<LocatedProblem>> {
    let path = &change.path;
    if !layers.iter().any(|layer| sets(layer, path)) {
        let known = at(&Merged::of(defaults, layers).values, path).is_some();
        let (message, hint) = if known {
            ("no layer sets this, so there is nothing to delete", "it has its default already; leave the argument out")
        } else {
            ("there is nothing of this name to delete", "an item of a list cannot be deleted: set the whole list")
        };
        return refused(change, message.to_owned(), Some(hint.to_owned()));
    }
    if let Some(wanted) = &change.element {
        let merged = Merged::of(defaults, layers);
        let found = at(&merged.values, path);
        if !found.is_some_and(|found| is_same(found, wanted)) {
            let shown = found.map(crate::wording::found).unwrap_or_default();
            return Err(Box::new(problem(change, format!("not deleted, since it is {shown}"), Some(format!("write `~{}`", dotted(path))))));
        }
    }
    for layer in layers {
        remove(&mut layer.values, path);
    }
    Ok(())
}

/// Whether the value is the one that was typed: numbers by their value, strings also by their text.
fn is_same(found: &Value, wanted: &Element) -> bool {
    match (found, wanted) {
        (Value::Num(_, number), Element::Int(_) | Element::Float(_)) => {
            let wanted = if let Element::Int(whole) = wanted { *whole as f64 } else { wanted.to_string().parse().unwrap_or(f64::NAN) };
            let found = number.to_f64().or_else(|| number.to_i128().map(|whole| whole as f64));
            found.is_some_and(|found| found.total_cmp(&wanted).is_eq())
        }
        (Value::String(_, text), Element::Text(wanted)) => text == wanted,
        (Value::String(_, text), other) => *text == other.to_string(),
        (Value::Bool(_, found), Element::Bool(wanted)) => found == wanted,
        (Value::Empty(..), Element::Null) => true,
        (Value::Array(_, found), Element::List(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| is_same(found, wanted))
        }
        (Value::Dict(_, found), Element::Dict(wanted)) => {
            let same = |(key, wanted): &(String, Element)| found.get(key).is_some_and(|found| is_same(found, wanted));
            found.len() == wanted.len() && wanted.iter().all(same)
        }
        _ => false,
    }
}

fn set(
    change: &Change,
    element: &Element,
    top: &mut Layer,
    layers: &[Layer],
    merged: &Dict,
    known: &Known,
) -> Result<(), Box<LocatedProblem>> {
    let path = &change.path;
    if let Some(length) = (1..path.len()).find(|n| at(merged, &path[..*n]).is_some_and(|value| value.as_array().is_some())) {
        let list_path = &path[..length];
        // Of several items of one list each change goes on from the last.
        let is_ours = matches!(top.places.get(list_path), Some(Source::Argument { text }) if is_item_of(text, list_path));
        let before = if is_ours { at(&top.values, list_path) } else { at(merged, list_path) };
        let mut value = untagged(before.cloned().unwrap_or_else(|| Value::Array(Tag::Default, Vec::new())));
        put_item(&mut value, &path[length..], element, change)?;
        if is_ours {
            remove(&mut top.values, list_path);
        }
        return if top.set(list_path, value, &change.place) { Ok(()) } else { twice(change, top) };
    }
    if change.action == Action::Add
        && let Some(layer) = layers.iter().rev().find(|layer| sets(layer, path))
        && !known.at(path).is_some_and(Known::is_table)
    {
        let place = layer.place(path);
        let hint = format!("write `{0}=…` to replace it, or `++{0}=…` to set it either way", dotted(path));
        return refused(change, format!("set already, by {place}"), Some(hint));
    }
    if change.action == Action::Set
        && let Some(length) = known.free_above(path)
        && at(merged, &path[..=length]).is_none()
        && at(&top.values, &path[..=length]).is_none()
    {
        let entries = at(merged, &path[..length]).and_then(Value::as_dict).map(|table| list(table.keys().map(String::as_str)));
        let there = entries.filter(|names| !names.is_empty()).map(|names| format!("; there are {names}")).unwrap_or_default();
        let message = format!("no layer has an entry `{}` in `{}`{there}", path[length], dotted(&path[..length]));
        return refused(change, message, Some(format!("to add it write `+{}=…`", dotted(path))));
    }
    if set_element(top, path, element, &change.text, &change.place) { Ok(()) } else { twice(change, top) }
}

/// A problem at the key.
fn refused(change: &Change, message: String, hint: Option<String>) -> Result<(), Box<LocatedProblem>> {
    Err(Box::new(problem(change, message, hint).at(Mark::Key)))
}

fn twice(change: &Change, top: &Layer) -> Result<(), Box<LocatedProblem>> {
    refused(change, format!("set twice, first by {}", top.place(&change.path)), Some("keep one of the two".to_owned()))
}

/// Whether an argument changes an item of this list.
fn is_item_of(text: &str, list: &[String]) -> bool {
    text.trim_start_matches('+').strip_prefix(&list.join(".")).is_some_and(|rest| rest.starts_with('.'))
}

/// Puts the element at a path of positions and names within a list.
fn put_item(value: &mut Value, path: &[String], element: &Element, change: &Change) -> Result<(), Box<LocatedProblem>> {
    let Some((step, below)) = path.split_first() else {
        *value = value_of(element);
        return Ok(());
    };
    match value {
        Value::Array(_, items) => {
            let length = items.len();
            let refused = |message: String, hint: &str| refused(change, message, Some(hint.to_owned()));
            let Ok(position) = step.parse::<usize>() else {
                return refused(format!("`{step}` is no position in a list"), "items are counted from 0, as in `paths.0=x`");
            };
            if position == length && change.action != Action::Set {
                items.push(Value::from(Dict::new()));
            }
            match items.get_mut(position) {
                Some(item) => put_item(item, below, element, change),
                None => refused(
                    format!("there is no item {position} in a list of {length} values"),
                    "items are counted from 0; `+` before the key adds one at the end",
                ),
            }
        }
        Value::Dict(_, table) => {
            let slot = table.entry(step.clone()).or_insert_with(|| Value::from(Dict::new()));
            put_item(slot, below, element, change)
        }
        other => {
            let message = format!("`{step}` is looked for in what is {}", crate::wording::found(other));
            refused(change, message, None)
        }
    }
}
