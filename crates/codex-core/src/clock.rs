//! The only place that asks what time it is. Time never enters a digest.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "this is the one place that reads the machine's clocks")]

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Instant;

/// A moment in UTC, in milliseconds since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or_default()
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-24T01:38:39.250Z`.
    pub fn to_rfc3339(self) -> String {
        format!("{:.3}", self.to_jiff())
    }

    /// For names of folders: `20261124-013839`.
    pub fn to_compact(self) -> String {
        self.to_jiff().strftime("%Y%m%d-%H%M%S").to_string()
    }
}

/// Something that tells the time.
pub trait Clock: Send + Sync + Debug {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Seconds since some fixed moment, never going back: for durations.
    fn elapsed_seconds(&self) -> f64;
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose elapsed seconds start at zero.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }

    fn elapsed_seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// A clock for tests: it starts at a given moment and moves by a fixed step at each look.
#[derive(Debug)]
pub struct FixedClock {
    state: Mutex<(i64, i64)>,
    step_ms: i64,
}

impl FixedClock {
    /// Starts at `start_ms` since 1970 and moves on by `step_ms` each time it is read.
    pub fn new(start_ms: i64, step_ms: i64) -> Self {
        Self { state: Mutex::new((start_ms, 0)), step_ms }
    }

    fn tick(&self) -> (i64, i64) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let read = *state;
        state.0 += self.step_ms;
        state.1 += self.step_ms;
        read
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.tick().0)
    }

    fn elapsed_seconds(&self) -> f64 {
        self.tick().1 as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_as_utc() {
        let at = Timestamp(1_795_484_319_250);
        assert_eq!(at.to_rfc3339(), "2026-11-24T01:38:39.250Z");
        assert_eq!(at.to_compact(), "20261124-013839");
        assert_eq!(Timestamp(0).to_rfc3339(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_fixed_clock_moves_by_its_step() {
        let clock = FixedClock::new(1000, 500);
        assert_eq!((clock.now().0, clock.now().0), (1000, 1500));
        assert!((clock.elapsed_seconds() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = SystemClock::default();
        assert!(clock.elapsed_seconds() <= clock.elapsed_seconds());
        assert!(clock.now().0 > 1_700_000_000_000);
    }
}
