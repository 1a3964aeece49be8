//! Numbers, sizes and times as a person reads them.

use jiff::Timestamp;

/// Four significant digits: `3.412`, `48.21`, `1,204`, `3×10⁻⁴`.
pub(crate) fn value(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "not finite".to_owned();
    }
    match size {
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e7).contains(&size) => scientific(value),
        _ if size >= 1000.0 => grouped(&format!("{value:.0}")),
        _ if size >= 100.0 => format!("{value:.1}"),
        _ if size >= 10.0 => format!("{value:.2}"),
        _ if size >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// `3×10⁻⁴`, `2.5×10⁸`.
fn scientific(value: f64) -> String {
    let written = format!("{value:.2e}");
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    format!("{mantissa}×10{}", superscript(exponent.parse().unwrap_or(0)))
}

/// An exponent as raised digits.
pub(crate) fn superscript(exponent: i32) -> String {
    let raised = |c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        '9' => '⁹',
        _ => '⁰',
    };
    exponent.to_string().chars().map(raised).collect()
}

/// `12,345`.
pub(crate) fn count(n: u64) -> String {
    grouped(&n.to_string())
}

/// Digits in groups of three.
fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut text = sign.to_owned();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The unit of 1024s that suits a size: its name and its bytes.
pub(crate) fn byte_unit(bytes: f64) -> (&'static str, f64) {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    units.into_iter().map(|(name, size)| (name, size as f64)).find(|&(_, size)| bytes >= size).unwrap_or(("B", 1.0))
}

/// `812 B`, `3.4 MiB`.
pub(crate) fn bytes(bytes: f64) -> String {
    match byte_unit(bytes) {
        ("B", _) => format!("{bytes:.0} B"),
        (name, size) => format!("{:.1} {name}", bytes / size),
    }
}

/// `42 s`, `3 min 5 s`, `2 h 11 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Seconds from one RFC 3339 time to another.
pub(crate) fn seconds_between(start: &str, end: &str) -> Option<f64> {
    let at = |text: &str| text.parse::<Timestamp>().ok().map(|at| at.as_millisecond() as f64 / 1000.0);
    Some(at(end)? - at(start)?)
}

/// `24 Nov 2026, 01:38 to 02:10 UTC`, with the second day when it is another; what cannot be read is shown as it is.
pub(crate) fn period(start: &str, end: &str) -> String {
    let (Ok(from), Ok(to)) = (start.parse::<Timestamp>(), end.parse::<Timestamp>()) else {
        return format!("{start} to {end}");
    };
    let day = |at: Timestamp| at.strftime("%-d %b %Y").to_string();
    let second = if day(from) == day(to) { String::new() } else { format!("{}, ", day(to)) };
    format!("{}, {} to {second}{} UTC", day(from), from.strftime("%H:%M"), to.strftime("%H:%M"))
}

/// `24 Nov 2026, 01:38`; what cannot be read is shown as it is, cut short.
pub(crate) fn moment(rfc3339: &str) -> String {
    rfc3339.parse::<Timestamp>().map_or_else(|_| clipped(rfc3339, 40), |at| at.strftime("%-d %b %Y, %H:%M").to_string())
}

/// `11-24 01:38:39`, for tables.
pub(crate) fn short_moment(rfc3339: &str) -> String {
    rfc3339.parse::<Timestamp>().map_or_else(|_| rfc3339.to_owned(), |at| at.strftime("%m-%d %H:%M:%S").to_string())
}

/// A text of at most this many characters, the last of them `…` where it was longer.
pub(crate) fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_four_digits() {
        let cases = [
            (0.0, "0"),
            (3.41234, "3.412"),
            (48.207, "48.21"),
            (345.67, "345.7"),
            (12_345.6, "12,346"),
            (0.0312, "0.0312"),
            (3e-4, "3×10⁻⁴"),
            (-2.5e8, "-2.5×10⁸"),
            (-1234.0, "-1,234"),
            (f64::NAN, "not finite"),
        ];
        for (number, expected) in cases {
            assert_eq!(value(number), expected);
        }
        assert_eq!([count(7), count(1000), count(1_234_567)], ["7", "1,000", "1,234,567"]);
        assert_eq!(superscript(-1_234_567_890), "⁻¹²³⁴⁵⁶⁷⁸⁹⁰");
    }

    #[test]
    fn sizes_and_times_choose_their_unit() {
        assert_eq!([bytes(812.0), bytes(3.4 * 1_048_576.0), bytes(2.0 * 1_099_511_627_776.0)], ["812 B", "3.4 MiB", "2.0 TiB"]);
        assert_eq!([duration(42.2), duration(185.0), duration(7900.0), duration(-3.0)], ["42 s", "3 min 5 s", "2 h 11 min", "0 s"]);
        let (start, end) = ("2026-11-24T01:38:39.250Z", "2026-11-24T01:39:40.750Z");
        assert_eq!(seconds_between(start, end), Some(61.5));
        assert_eq!(period(start, end), "24 Nov 2026, 01:38 to 01:39 UTC");
        assert_eq!(period(start, "2026-11-25T00:00:00Z"), "24 Nov 2026, 01:38 to 25 Nov 2026, 00:00 UTC");
        assert_eq!(
            [period(start, "x"), short_moment(start), short_moment("x")],
            [format!("{start} to x"), "11-24 01:38:39".to_owned(), "x".to_owned()]
        );
        assert_eq!(seconds_between("x", end), None);
    }
}
