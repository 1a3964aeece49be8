//! The operators of a template, each within the budget. They do what Python does for the values a template has.

use std::cmp::Ordering;
use std::sync::Arc;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::budget::{Budget, PaidText};
use super::{python, slice};

/// Gives the environment the operators under the names that [`super::program`] calls them by.
pub(crate) fn install(env: &mut Environment<'_>, budget: &Arc<Budget>) {
    type Binary = fn(&Budget, &Value, &Value) -> Result<Value, Error>;
    let binary: [(&'static str, Binary); 12] = [
        ("+", add),
        ("*", multiply),
        ("%", remainder),
        ("~", concatenate),
        ("in", contains),
        ("[]", item),
        ("==", |budget, a, b| compared(budget, a, b, a == b)),
        ("!=", |budget, a, b| compared(budget, a, b, a != b)),
        ("<", |budget, a, b| compared(budget, a, b, a.cmp(b) == Ordering::Less)),
        ("<=", |budget, a, b| compared(budget, a, b, a.cmp(b) != Ordering::Greater)),
        (">", |budget, a, b| compared(budget, a, b, a.cmp(b) == Ordering::Greater)),
        (">=", |budget, a, b| compared(budget, a, b, a.cmp(b) != Ordering::Less)),
    ];
    for (name, operate) in binary {
        let paid = Arc::clone(budget);
        env.add_filter(name, move |a: &Value, b: &Value| operate(&paid, a, b));
    }
    // The same comparisons as tests, for `select` and its like.
    let tests: [(&[&'static str], Binary); 7] = [
        (&["eq", "equalto", "=="], |budget, a, b| compared(budget, a, b, a == b)),
        (&["ne", "!="], |budget, a, b| compared(budget, a, b, a != b)),
        (&["lt", "lessthan", "<"], |budget, a, b| compared(budget, a, b, a.cmp(b) == Ordering::Less)),
        (&["le", "<="], |budget, a, b| compared(budget, a, b, a.cmp(b) != Ordering::Greater)),
        (&["gt", "greaterthan", ">"], |budget, a, b| compared(budget, a, b, a.cmp(b) == Ordering::Greater)),
        (&["ge", ">="], |budget, a, b| compared(budget, a, b, a.cmp(b) != Ordering::Less)),
        (&["in"], contains),
    ];
    for (names, operate) in tests {
        for name in names {
            let paid = Arc::clone(budget);
            env.add_test(*name, move |a: &Value, b: &Value| Ok::<_, Error>(operate(&paid, a, b)?.is_true()));
        }
    }
    // Nothing is not iterable in Python; what is undefined is.
    env.add_test("iterable", |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::Undefined)
    });
    let paid = Arc::clone(budget);
    env.add_filter("[:]", move |a: &Value, start: &Value, stop: &Value, step: &Value| slice::slice(&paid, a, start, stop, step));
    let paid = Arc::clone(budget);
    env.add_filter("weighed", move |value: &Value| paid.weigh(value).map(|()| value.clone()));
}

fn failed(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn unsupported(operator: &str, a: &Value, b: &Value) -> Error {
    failed(format!("`{operator}` cannot be applied to {} and {}", a.kind(), b.kind()))
}

/// A whole number; truth counts as 1, as in Python.
fn integer(value: &Value) -> Option<i128> {
    if value.kind() == ValueKind::Bool {
        return Some(i128::from(value.is_true()));
    }
    value.is_integer().then(|| i128::try_from(value.clone()).ok()).flatten()
}

fn float(value: &Value) -> Option<f64> {
    (value.kind() == ValueKind::Number).then(|| f64::try_from(value.clone()).ok()).flatten().or_else(|| integer(value).map(|n| n as f64))
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// A number, kept small where it is.
fn whole(number: i128) -> Value {
    i64::try_from(number).map_or_else(|_| Value::from(number), Value::from)
}

fn add(budget: &Budget, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (a.as_str(), b.as_str()) {
        budget.charge(left.len() + right.len())?;
        return Ok(Value::from([left, right].concat()));
    }
    if let (Some(left), Some(right)) = (integer(a), integer(b)) {
        return left.checked_add(right).map(whole).ok_or_else(|| failed("a sum beyond 128 bits".to_owned()));
    }
    if let (Some(left), Some(right)) = (float(a), float(b)) {
        return Ok(Value::from(left + right));
    }
    if is_list(a) && is_list(b) {
        let mut list = Vec::new();
        for item in a.try_iter()?.chain(b.try_iter()?) {
            budget.charge(1)?;
            list.push(item);
        }
        return Ok(Value::from(list));
    }
    Err(unsupported("+", a, b))
}

fn multiply(budget: &Budget, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (integer(a), integer(b)) {
        return left.checked_mul(right).map(whole).ok_or_else(|| failed("a product beyond 128 bits".to_owned()));
    }
    if let (Some(left), Some(right)) = (float(a), float(b)) {
        return Ok(Value::from(left * right));
    }
    let (repeated, times) = if integer(b).is_some() { (a, b) } else { (b, a) };
    let Some(times) = integer(times).map(|times| usize::try_from(times.max(0)).unwrap_or(usize::MAX)) else {
        return Err(unsupported("*", a, b));
    };
    if let Some(text) = repeated.as_str() {
        let mut out = PaidText::new(budget);
        out.push_times(text, times)?;
        return Ok(Value::from(out.into_text()));
    }
    if !is_list(repeated) {
        return Err(unsupported("*", a, b));
    }
    let once: Vec<Value> = repeated.try_iter()?.collect();
    budget.charge(once.len().saturating_mul(times))?;
    Ok(Value::from(std::iter::repeat_n(once, times).flatten().collect::<Vec<_>>()))
}

/// The remainder with the sign of the divisor.
fn remainder(_: &Budget, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (integer(a), integer(b)) {
        let rest = left.checked_rem(right).ok_or_else(|| failed("a division by zero".to_owned()))?;
        return Ok(whole(if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest }));
    }
    match (float(a), float(b)) {
        (Some(left), Some(right)) => Ok(Value::from(left - right * (left / right).floor())),
        _ => Err(unsupported("%", a, b)),
    }
}

fn concatenate(budget: &Budget, a: &Value, b: &Value) -> Result<Value, Error> {
    let mut out = PaidText::new(budget);
    python::write_str(&mut out, a)?;
    python::write_str(&mut out, b)?;
    Ok(Value::from(out.into_text()))
}

fn compared(budget: &Budget, a: &Value, b: &Value, result: bool) -> Result<Value, Error> {
    budget.look(a)?;
    budget.look(b)?;
    Ok(Value::from(result))
}

/// `value in container`.
fn contains(budget: &Budget, value: &Value, container: &Value) -> Result<Value, Error> {
    budget.look(value)?;
    budget.look(container)?;
    if container.is_undefined() {
        return Ok(Value::from(false));
    }
    if let Some(text) = container.as_str() {
        let part = value.as_str().ok_or_else(|| unsupported("in", value, container))?;
        return Ok(Value::from(text.contains(part)));
    }
    let found = match container.kind() {
        ValueKind::Map => container.as_object().and_then(|object| object.get_value(value)).is_some(),
        ValueKind::Seq | ValueKind::Iterable => container.try_iter()?.any(|item| item == *value),
        _ => return Err(unsupported("in", value, container)),
    };
    Ok(Value::from(found))
}

/// `value[key]`; what is not there is undefined.
fn item(budget: &Budget, value: &Value, key: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, format!("{key} of an undefined value")));
    }
    if let (Some(text), Some(at)) = (value.as_str(), key.as_i64()) {
        budget.charge(text.len())?;
        let at = if at < 0 { at.saturating_add(text.chars().count() as i64) } else { at };
        let found = usize::try_from(at).ok().and_then(|at| text.chars().nth(at));
        return Ok(found.map_or(Value::UNDEFINED, Value::from));
    }
    value.get_item(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_python() {
        let budget = Budget::new(0);
        let of = |operate: fn(&Budget, &Value, &Value) -> Result<Value, Error>, a: Value, b: Value| {
            operate(&budget, &a, &b).unwrap().to_string()
        };
        assert_eq!(of(remainder, (-7).into(), 3.into()), "2");
        assert_eq!(of(remainder, 7.into(), (-3).into()), "-2");
        assert_eq!(of(remainder, (-7.5).into(), 2.into()), "0.5");
        assert_eq!(of(add, 1.into(), 0.5.into()), "1.5");
        assert_eq!(of(add, true.into(), 1.into()), "2");
        assert_eq!(of(multiply, 3.into(), "ab".into()), "ababab");
        assert_eq!(of(multiply, "ab".into(), (-1).into()), "");
        assert_eq!(of(concatenate, true.into(), 1.5.into()), "True1.5");
        assert!(remainder(&budget, &1.into(), &0.into()).is_err());
        assert!(add(&budget, &"a".into(), &1.into()).is_err());
        assert!(multiply(&budget, &i128::MAX.into(), &2.into()).is_err());
        assert!(multiply(&budget, &"a".into(), &u64::MAX.into()).is_err());
    }
}
