//! The environment a template runs in, and one run of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use codex_core::Timestamp;
use minijinja::machinery::{Instructions, Vm, make_string_output};
use minijinja::value::{Kwargs, Rest, StringInput};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, FormatStyle, State, Value, filters};

use super::budget::{Budget, PaidText, Stop};
use super::python::{JsonForm, to_str, write_str};
use super::{methods, operations};

/// The steps a template may take for itself, and for each message.
const STEPS: u64 = 500_000;
const STEPS_PER_MESSAGE: u64 = 5_000;
/// How deep macros and blocks may nest in one another.
const MAX_RECURSION: usize = 200;
/// The most elements of a `range`.
const MAX_RANGE: usize = 100_000;
/// The longest format of a date.
const MAX_DATE_FORMAT: usize = 256;

/// Why a run ended without a text.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The engine's reason.
    Error(Error),
    /// Ours.
    Stopped(Stop),
    /// It took too many steps.
    Steps,
}

/// What a run is given beside the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'a> {
    /// The size of what the template is given, in bytes.
    pub(crate) input_bytes: usize,
    /// How many messages there are.
    pub(crate) n_messages: usize,
    /// The date, for templates that print it.
    pub(crate) date: Option<Timestamp>,
    /// What is put around the text that the assistant says.
    pub(crate) marks: (&'a str, &'a str),
}

/// Runs a program on these variables.
pub(crate) fn run(program: &Instructions<'_>, root: Value, setting: Setting<'_>) -> Result<String, Ended> {
    let budget = Arc::new(Budget::new(setting.input_bytes));
    let env = environment(&budget, setting);
    let mut text = String::new();
    let blocks = BTreeMap::new();
    let done = Vm::new(&env).eval(program, root, &blocks, &mut make_string_output(&mut text), AutoEscape::None).map(drop);
    match (done, budget.stopped()) {
        (_, Some(stop)) => Err(Ended::Stopped(stop)),
        (Err(error), None) if is_out_of_fuel(&error) => Err(Ended::Steps),
        (Err(error), None) => Err(Ended::Error(error)),
        (Ok(()), None) => Ok(text),
    }
}

/// The engine wraps what happens in a macro.
fn is_out_of_fuel(error: &Error) -> bool {
    let mut error: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = error {
        if this.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
            return true;
        }
        error = this.source();
    }
    false
}

fn environment<'e>(budget: &Arc<Budget>, setting: Setting<'_>) -> Environment<'e> {
    let mut env = Environment::new();
    env.set_recursion_limit(MAX_RECURSION);
    env.set_fuel(Some(STEPS + STEPS_PER_MESSAGE * setting.n_messages as u64));
    let paid = Arc::clone(budget);
    env.set_formatter(move |out, _, value| {
        if let Some(text) = value.as_str() {
            paid.charge(text.len())?;
            return out.write_str(text).map_err(Error::from);
        }
        let text = to_str(&paid, value)?;
        out.write_str(&text).map_err(Error::from)
    });
    let paid = Arc::clone(budget);
    env.set_unknown_method_callback(move |state, value, method, args| methods::call(&paid, state, value, method, args));
    operations::install(&mut env, budget);
    linear_filters(&mut env, budget);
    own_filters(&mut env, budget, setting.marks);
    functions(&mut env, budget, setting.date);
    env
}

/// The engine's filters that make no more than they are given; the price is that of the value and of the result.
fn linear_filters(env: &mut Environment<'_>, budget: &Arc<Budget>) {
    macro_rules! paid {
        ($($name:literal = $filter:path),* $(,)?) => {$(
            // Under this name the engine's own is found by nobody who goes by the rules of names.
            env.add_filter(concat!("engine ", $name), $filter);
            let paid = Arc::clone(budget);
            env.add_filter($name, move |state: &State<'_, '_>, args: Rest<Value>| {
                if let Some(value) = args.first() {
                    paid.look(value)?;
                }
                paid.settled(state.apply_filter(concat!("engine ", $name), &args)?)
            });
        )*};
    }
    paid!(
        "lower" = filters::lower,
        "upper" = filters::upper,
        "title" = filters::title,
        "capitalize" = filters::capitalize,
        "trim" = filters::trim,
        "length" = filters::length,
        "count" = filters::length,
        "dictsort" = filters::dictsort,
        "items" = filters::items,
        "reverse" = filters::reverse,
        "split" = filters::split,
        "lines" = filters::lines,
        "default" = filters::default,
        "d" = filters::default,
        "round" = filters::round,
        "abs" = filters::abs,
        "int" = filters::int,
        "float" = filters::float,
        "attr" = filters::attr,
        "first" = filters::first,
        "last" = filters::last,
        "min" = filters::min,
        "max" = filters::max,
        "sort" = filters::sort,
        "list" = filters::list,
        "bool" = filters::bool,
        "select" = filters::select,
        "reject" = filters::reject,
        "selectattr" = filters::selectattr,
        "rejectattr" = filters::rejectattr,
        "map" = filters::map,
        "groupby" = filters::groupby,
        "unique" = filters::unique,
    );
    for name in ["batch", "slice", "sum", "chain", "zip", "pprint", "urlencode"] {
        env.remove_filter(name);
    }
    for name in ["startingwith", "endingwith", "lower", "upper", "containing", "filter", "test"] {
        env.remove_test(name);
    }
}

/// The filters that could make much of little.
fn own_filters(env: &mut Environment<'_>, budget: &Arc<Budget>, marks: (&str, &str)) {
    let paid = Arc::clone(budget);
    env.add_filter("string", move |value: &Value| to_str(&paid, value).map(Value::from));
    // Nothing is escaped in a chat, as in transformers.
    env.add_filter("safe", |value: &Value| value.clone());
    let paid = Arc::clone(budget);
    let escape = move |state: &State<'_, '_>, value: &Value| {
        paid.charge(value.as_str().map_or(1, str::len).saturating_mul(6))?;
        let text = to_str(&paid, value)?;
        filters::escape(state, &Value::from(text)).map(|value| Value::from(value.to_string()))
    };
    env.add_filter("escape", escape.clone());
    env.add_filter("e", escape);
    let paid = Arc::clone(budget);
    env.add_filter("replace", move |text: StringInput<'_>, old: &str, new: &str, count: Option<i64>| {
        methods::replace(&paid, text.as_str(), old, new, count)
    });
    let paid = Arc::clone(budget);
    env.add_filter("join", move |value: &Value, separator: Option<&str>| methods::join(&paid, value, separator.unwrap_or("")));
    let paid = Arc::clone(budget);
    env.add_filter("format", move |text: &str, args: Rest<Value>| methods::format(&paid, FormatStyle::Printf, text, &args));
    let paid = Arc::clone(budget);
    env.add_filter("indent", move |text: &str, width: Option<Value>, first: Option<bool>, blank: Option<bool>, kwargs: Kwargs| {
        let width = width.map_or_else(|| kwargs.get::<Option<Value>>("width"), |width| Ok(Some(width)))?;
        let first = first.map_or_else(|| kwargs.get::<Option<bool>>("first"), |first| Ok(Some(first)))?.unwrap_or(false);
        let blank = blank.map_or_else(|| kwargs.get::<Option<bool>>("blank"), |blank| Ok(Some(blank)))?.unwrap_or(false);
        kwargs.assert_all_used()?;
        indent(&paid, text, width.as_ref(), first, blank)
    });
    let paid = Arc::clone(budget);
    env.add_filter("tojson", move |value: &Value, args: Rest<Value>| {
        let mut out = PaidText::new(&paid);
        JsonForm::of(&args)?.write(&mut out, value, 0)?;
        Ok::<_, Error>(Value::from(out.into_text()))
    });
    let paid = Arc::clone(budget);
    let (open, close) = (marks.0.to_owned(), marks.1.to_owned());
    env.add_filter("generation", move |said: &Value| {
        let mut out = PaidText::new(&paid);
        out.push(&open)?;
        write_str(&mut out, said)?;
        out.push(&close)?;
        Ok::<_, Error>(Value::from(out.into_text()))
    });
}

/// Jinja's `indent`: by a width or a text, the first line and blank ones only when asked for.
fn indent(budget: &Budget, text: &str, width: Option<&Value>, first: bool, blank: bool) -> Result<Value, Error> {
    let (spaces, given) = match width {
        None => (4, None),
        Some(width) => match width.as_str() {
            Some(text) => (0, Some(text)),
            None => (width.as_i64().and_then(|width| usize::try_from(width).ok()).unwrap_or(0), None),
        },
    };
    let mut out = PaidText::new(budget);
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push("\n")?;
        }
        if (i > 0 || first) && (blank || !line.is_empty()) {
            match given {
                Some(text) => out.push(text)?,
                None => out.push_times(" ", spaces)?,
            }
        }
        out.push(line)?;
    }
    Ok(Value::from(out.into_text()))
}

fn functions(env: &mut Environment<'_>, budget: &Arc<Budget>, date: Option<Timestamp>) {
    env.remove_global("debug");
    let paid = Arc::clone(budget);
    env.add_function("range", move |lower: i64, upper: Option<i64>, step: Option<i64>| {
        let (start, stop) = upper.map_or((0, lower), |upper| (lower, upper));
        let step = step.unwrap_or(1);
        let numbers = (0..).map_while(|i: i64| {
            let number = i.checked_mul(step)?.checked_add(start)?;
            (if step > 0 { number < stop } else { number > stop }).then_some(number)
        });
        if step == 0 {
            return Err(Error::new(ErrorKind::InvalidOperation, "a range cannot have a step of 0"));
        }
        let numbers: Vec<i64> = numbers.take(MAX_RANGE + 1).collect();
        if numbers.len() > MAX_RANGE {
            return Err(paid.stop(Stop::TooMuch));
        }
        paid.charge(numbers.len())?;
        Ok(Value::from(numbers))
    });
    let paid = Arc::clone(budget);
    env.add_function("raise_exception", move |message: &Value| {
        let mut message = to_str(&paid, message)?;
        message.truncate(message.floor_char_boundary(1000));
        Err::<Value, _>(paid.stop(Stop::Raised(message)))
    });
    let paid = Arc::clone(budget);
    env.add_function("strftime_now", move |format: &str| {
        let Some(date) = date else { return Err(paid.stop(Stop::NoDate)) };
        let failed = |message: String| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {message}"));
        if format.len() > MAX_DATE_FORMAT || format.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 2) {
            return Err(failed(format!("expected a format of at most {MAX_DATE_FORMAT} bytes without widths")));
        }
        let moment = jiff::Timestamp::from_millisecond(date.0).map_err(|error| failed(error.to_string()))?;
        let moment = moment.to_zoned_datetime(jiff::tz::TimeZone::UTC);
        let text = jiff::fmt::strtime::format(format, &moment).map_err(|error| failed(error.to_string()))?;
        paid.charge(text.len())?;
        Ok(Value::from(text))
    });
}
