//! The phases of the loop, for whoever watches: a span of `tracing` and a phase of `codex_ops::profile` at once.

/// Does the work of a closure as the phase of this name.
macro_rules! phase {
    ($name:literal, $work:expr) => {{
        let _span = tracing::debug_span!($name).entered();
        codex_ops::profile::phase($name, concat!($name, ": everything else"), $work)
    }};
}

pub(crate) use phase;
