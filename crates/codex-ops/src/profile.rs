//! Where the time of a step goes, operation by operation. Off, it costs one load for each operation.
//!
//! Operations follow each other on one thread and share the others inside, so a span is the time that passes between its beginning and its end,
//! less that of the spans within it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use codex_core::Clock;

static IS_ON: AtomicBool = AtomicBool::new(false);
static CLOCK: Mutex<Option<Arc<dyn Clock>>> = Mutex::new(None);
static SPANS: Mutex<BTreeMap<&'static str, Totals>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// For each span that is open on this thread, the seconds of the spans within it.
    static WITHIN: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    count: u64,
    seconds: f64,
    floating_operations: u64,
}

/// What the spans of one name came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The operation, such as `linear: gradient of the weight`.
    pub name: &'static str,
    /// How often it ran.
    pub count: u64,
    /// Seconds in it and in nothing that has a name of its own.
    pub seconds: f64,
    /// Multiplications and additions of its matrix products; 0 where it has none.
    pub floating_operations: u64,
}

/// Begins to measure, from nothing.
pub fn start(clock: Arc<dyn Clock>) {
    SPANS.lock().unwrap_or_else(PoisonError::into_inner).clear();
    *CLOCK.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    IS_ON.store(true, Ordering::Relaxed);
}

/// Ends measuring. The spans, the longest first.
pub fn stop() -> Vec<Span> {
    IS_ON.store(false, Ordering::Relaxed);
    let spans = std::mem::take(&mut *SPANS.lock().unwrap_or_else(PoisonError::into_inner));
    let span = |(name, totals): (&'static str, Totals)| {
        let Totals { count, seconds, floating_operations } = totals;
        Span { name, count, seconds, floating_operations }
    };
    let mut spans: Vec<Span> = spans.into_iter().map(span).collect();
    spans.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    spans
}

/// Does the work and, when measuring is on, adds its time to the span of this name.
pub fn timed<R>(name: &'static str, work: impl FnOnce() -> R) -> R {
    counted(name, 0, work)
}

/// The same for work with matrix products.
pub(crate) fn counted<R>(name: &'static str, floating_operations: u64, work: impl FnOnce() -> R) -> R {
    if !IS_ON.load(Ordering::Relaxed) {
        return work();
    }
    let Some(clock) = CLOCK.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return work() };
    WITHIN.with_borrow_mut(|open| open.push(0.0));
    let began = clock.elapsed_seconds();
    let result = work();
    let seconds = clock.elapsed_seconds() - began;
    let within = WITHIN.with_borrow_mut(|open| {
        let within = open.pop().unwrap_or_default();
        if let Some(outer) = open.last_mut() {
            *outer += seconds;
        }
        within
    });
    let mut spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
    let totals = spans.entry(name).or_default();
    totals.count += 1;
    totals.seconds += seconds - within;
    totals.floating_operations += floating_operations;
    result
}

#[cfg(test)]
mod tests {
    use codex_core::FixedClock;

    use super::*;

    #[test]
    fn a_span_is_its_time_less_that_of_the_spans_within() {
        assert_eq!(timed("not measured", || 1), 1);
        // Each look at the clock takes a second.
        start(Arc::new(FixedClock::new(0, 1000)));
        timed("outer", || {
            counted("inner", 7, || ());
            counted("inner", 7, || ());
        });
        let found: Vec<(&str, u64, u64, u64)> =
            stop().iter().map(|span| (span.name, span.count, span.seconds.round() as u64, span.floating_operations)).collect();
        // The outer one looks at the beginning and the end, and sees the four looks of the inner ones in between.
        assert_eq!(found, [("outer", 1, 3, 0), ("inner", 2, 2, 14)]);
        assert_eq!(stop(), []);
    }
}
