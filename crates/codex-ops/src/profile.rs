//! Where the time of a step goes: by phase (data, forward, backward, …) and operation by operation. Off, it costs one load for each.
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
static PHASES: Mutex<BTreeMap<&'static str, Totals>> = Mutex::new(BTreeMap::new());
static SINK: Mutex<Option<Sink>> = Mutex::new(None);

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

/// What the calls of one phase came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// The phase, such as `forward`.
    pub name: &'static str,
    /// How often it came.
    pub count: u64,
    /// Seconds from its beginning to its end, with all within.
    pub seconds: f64,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// The operations, the longest first.
    pub spans: Vec<Span>,
    /// The phases, the longest first.
    pub phases: Vec<Phase>,
}

/// One phase or operation that has ended, with all within it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Its name.
    pub name: &'static str,
    /// When it began, in seconds of the clock.
    pub began: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Whether it is a phase.
    pub is_phase: bool,
}

/// Is handed each moment when it ends, inner ones before the one that they are within.
pub type Sink = Box<dyn FnMut(&Moment) + Send>;

/// Begins to measure, from nothing; a sink is handed every single moment as well.
pub fn start(clock: Arc<dyn Clock>, sink: Option<Sink>) {
    SPANS.lock().unwrap_or_else(PoisonError::into_inner).clear();
    PHASES.lock().unwrap_or_else(PoisonError::into_inner).clear();
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = sink;
    *CLOCK.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    IS_ON.store(true, Ordering::Relaxed);
}

/// Ends measuring, and lets go of the sink.
pub fn stop() -> Profile {
    IS_ON.store(false, Ordering::Relaxed);
    drop(SINK.lock().unwrap_or_else(PoisonError::into_inner).take());
    let spans = std::mem::take(&mut *SPANS.lock().unwrap_or_else(PoisonError::into_inner));
    let span = |(name, totals): (&'static str, Totals)| {
        let Totals { count, seconds, floating_operations } = totals;
        Span { name, count, seconds, floating_operations }
    };
    let mut spans: Vec<Span> = spans.into_iter().map(span).collect();
    spans.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let phases = std::mem::take(&mut *PHASES.lock().unwrap_or_else(PoisonError::into_inner));
    let phase = |(name, totals): (&'static str, Totals)| Phase { name, count: totals.count, seconds: totals.seconds };
    let mut phases: Vec<Phase> = phases.into_iter().map(phase).collect();
    phases.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Profile { spans, phases }
}

/// Does the work of a phase, which may hold operations and no other phase. Its time outside of them is the operation `NAME: everything else`.
pub fn phase<R>(name: &'static str, everything_else: &'static str, work: impl FnOnce() -> R) -> R {
    if !IS_ON.load(Ordering::Relaxed) {
        return work();
    }
    let Some(clock) = CLOCK.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return work() };
    let began = clock.elapsed_seconds();
    let result = counted(everything_else, 0, work);
    let seconds = clock.elapsed_seconds() - began;
    let mut phases = PHASES.lock().unwrap_or_else(PoisonError::into_inner);
    let totals = phases.entry(name).or_default();
    totals.count += 1;
    totals.seconds += seconds;
    drop(phases);
    hand_on(Moment { name, began, seconds, is_phase: true });
    result
}

fn hand_on(moment: Moment) {
    if let Some(sink) = SINK.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        sink(&moment);
    }
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
    drop(spans);
    hand_on(Moment { name, began, seconds, is_phase: false });
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
        let moments = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&moments);
        start(Arc::new(FixedClock::new(0, 1000)), Some(Box::new(move |moment| kept.lock().unwrap().push(*moment))));
        phase("forward", "outer", || {
            counted("inner", 7, || ());
            counted("inner", 7, || ());
        });
        let profile = stop();
        let found: Vec<(&str, u64, u64, u64)> =
            profile.spans.iter().map(|span| (span.name, span.count, span.seconds.round() as u64, span.floating_operations)).collect();
        // The outer one looks at the beginning and the end, and sees the four looks of the inner ones in between.
        assert_eq!(found, [("outer", 1, 3, 0), ("inner", 2, 2, 14)]);
        // The phase takes in both looks of its own operation.
        assert_eq!(profile.phases.iter().map(|it| (it.name, it.count, it.seconds.round() as u64)).collect::<Vec<_>>(), [("forward", 1, 7)]);
        let seen: Vec<(&str, u64, bool)> =
            moments.lock().unwrap().iter().map(|it: &Moment| (it.name, it.seconds.round() as u64, it.is_phase)).collect();
        assert_eq!(seen, [("inner", 1, false), ("inner", 1, false), ("outer", 5, false), ("forward", 7, true)]);
        assert_eq!(stop(), Profile::default());
        phase("not measured", "outer", || ());
        assert_eq!(stop(), Profile::default());
    }
}
