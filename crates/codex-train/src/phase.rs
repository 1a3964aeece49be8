//! The phases of the loop, for whoever watches: a span of `tracing` and a phase of `codex_ops::profile` at once.

use codex_ops::profile::{Moment, Sink};
use codex_track::telemetry::trace::this_thread;
use codex_track::telemetry::{SpanRecord, Trace};

/// What time outside the operations of a phase is called.
const REST: &str = ": everything else";

/// Hands every phase and operation to a trace; the rest of a phase is as long as the phase and is left out.
pub(crate) fn sink(trace: Trace) -> Sink {
    Box::new(move |moment: &Moment| {
        if !moment.name.ends_with(REST) {
            trace.record(&SpanRecord {
                name: moment.name,
                thread: this_thread(),
                start_seconds: moment.began,
                duration_seconds: moment.seconds,
                args: serde_json::Map::new(),
            });
        }
    })
}

/// Does the work of a closure as the phase of this name.
macro_rules! phase {
    ($name:literal, $work:expr) => {{
        let _span = tracing::debug_span!($name).entered();
        codex_ops::profile::phase($name, concat!($name, ": everything else"), $work)
    }};
}

pub(crate) use phase;
