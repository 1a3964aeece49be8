//! Python's slices of texts and lists.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::budget::Budget;

/// `value[start:stop:step]`.
pub(crate) fn slice(budget: &Budget, value: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value, Error> {
    let step = bound(step)?.unwrap_or(1);
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "a slice cannot have a step of 0"));
    }
    let (start, stop) = (bound(start)?, bound(stop)?);
    if let Some(text) = value.as_str() {
        budget.charge(text.len() * 5)?;
        let chars: Vec<char> = text.chars().collect();
        return Ok(Value::from(places(chars.len(), start, stop, step).map(|at| chars[at]).collect::<String>()));
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Ok(Value::from(Vec::<Value>::new())),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()? {
                budget.charge(2)?;
                items.push(item);
            }
            Ok(Value::from(places(items.len(), start, stop, step).map(|at| items[at].clone()).collect::<Vec<_>>()))
        }
        kind => Err(Error::new(ErrorKind::InvalidOperation, format!("a value of kind {kind} cannot be sliced"))),
    }
}

fn bound(value: &Value) -> Result<Option<i64>, Error> {
    if value.is_none() || value.is_undefined() {
        return Ok(None);
    }
    value.as_i64().map(Some).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the bounds of a slice are whole numbers"))
}

/// The places of a slice, in its order.
fn places(len: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let len = len as i64;
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let placed = |bound: i64| if bound < 0 { bound.saturating_add(len) } else { bound }.clamp(lowest, highest);
    let start = start.map_or(if step > 0 { 0 } else { len - 1 }, placed);
    let stop = stop.map_or(if step > 0 { len } else { -1 }, placed);
    let mut at = start;
    std::iter::from_fn(move || {
        let here = at;
        let inside = if step > 0 { here < stop } else { here > stop };
        at = at.saturating_add(step);
        inside.then_some(here as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_python() {
        let of = |start, stop, step| places(5, start, stop, step).collect::<Vec<_>>();
        assert_eq!(of(None, None, 1), [0, 1, 2, 3, 4]);
        assert_eq!(of(Some(1), None, 1), [1, 2, 3, 4]);
        assert_eq!(of(None, Some(-1), 1), [0, 1, 2, 3]);
        assert_eq!(of(Some(-2), None, 1), [3, 4]);
        assert_eq!(of(None, None, -1), [4, 3, 2, 1, 0]);
        assert_eq!(of(Some(3), Some(0), -2), [3, 1]);
        assert_eq!(of(Some(9), Some(20), 1), [0_usize; 0]);
        assert_eq!(of(Some(-9), Some(2), 1), [0, 1]);
        assert_eq!(of(Some(i64::MIN), Some(i64::MAX), i64::MAX), [0]);
        assert_eq!(places(0, None, None, -1).count(), 0);
    }

    #[test]
    fn texts_are_cut_at_characters() {
        let cut =
            |start: i64| slice(&Budget::new(0), &Value::from("aé🦀"), &Value::from(start), &Value::from(()), &Value::from(())).unwrap();
        assert_eq!((cut(1).as_str(), cut(-1).as_str()), (Some("é🦀"), Some("🦀")));
    }
}
