//! What of the telemetry works: a state for each component, and the words for it. It finds nothing out itself.

use serde::{Deserialize, Serialize};

use super::error::TelemetryError;
use crate::tracker::{Degraded, Tracker};

/// A part of the telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// The processor and this process.
    Cpu,
    /// Memory and swap.
    Memory,
    /// The disk of the run.
    Disk,
    /// NVIDIA GPUs.
    Gpu,
    /// What Prometheus reads.
    Prometheus,
    /// Where the time goes.
    Tracing,
}

impl Component {
    /// The word in records and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Gpu => "gpu",
            Self::Prometheus => "prometheus",
            Self::Tracing => "tracing",
        }
    }

    /// What is measured, for a sentence.
    fn subject(self) -> &'static str {
        match self {
            Self::Cpu => "the processor",
            Self::Memory => "memory",
            Self::Disk => "the disk",
            Self::Gpu => "GPU health",
            Self::Prometheus => "Prometheus output",
            Self::Tracing => "where the time goes",
        }
    }
}

/// Whether a component does what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", content = "reason", rename_all = "lowercase")]
pub enum State {
    /// It does.
    On,
    /// It was not asked for.
    Off,
    /// It was asked for and cannot be had, or not in full; and why.
    Degraded(String),
}

/// One component and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelemetryStatus {
    /// The component.
    pub component: Component,
    /// Whether it works.
    #[serde(flatten)]
    pub state: State,
    /// What is really measured or shown; empty where nothing is.
    pub what_is_measured: String,
}

impl TelemetryStatus {
    /// A status.
    pub fn new(component: Component, state: State, what_is_measured: &str) -> Self {
        Self { component, state, what_is_measured: what_is_measured.to_owned() }
    }

    /// One sentence for a person: `GPU health is not being measured: NVML cannot be used: …`.
    pub fn sentence(&self) -> String {
        let subject = self.component.subject();
        let verb = if self.component == Component::Prometheus { "served" } else { "measured" };
        match &self.state {
            State::On => format!("{subject} is being {verb}: {}", self.what_is_measured),
            State::Off => format!("{subject} is not being {verb}: it was not asked for"),
            State::Degraded(reason) if self.what_is_measured.is_empty() => format!("{subject} is not being {verb}: {reason}"),
            State::Degraded(reason) => format!("{subject} is not being {verb} in full: {reason}; what there is: {}", self.what_is_measured),
        }
    }

    /// The status as the tracker's banner has it; `None` unless something that was asked for cannot be had.
    pub fn degraded(&self) -> Option<Degraded> {
        let State::Degraded(reason) = &self.state else { return None };
        Some(Degraded { component: self.component.name().to_owned(), reason: reason.clone() })
    }
}

/// Reports to the tracker what was asked for and cannot be had: an event for each component, once, and its part of the banner.
pub fn report(all: &[TelemetryStatus], tracker: &mut Tracker) {
    for Degraded { component, reason } in all.iter().filter_map(TelemetryStatus::degraded) {
        tracker.degrade(&component, &TelemetryError::Degraded { reason });
    }
}

/// The banner `[telemetry] degraded: …` of these; `None` when all that was asked for is there.
pub fn banner(all: &[TelemetryStatus]) -> Option<String> {
    Degraded::banner(&all.iter().filter_map(TelemetryStatus::degraded).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_a_sentence_and_a_record() {
        let off = TelemetryStatus::new(Component::Cpu, State::Off, "");
        assert_eq!(serde_json::to_value(&off).unwrap(), json!({ "component": "cpu", "state": "off", "what_is_measured": "" }));
        assert_eq!(off.sentence(), "the processor is not being measured: it was not asked for");
        let on = TelemetryStatus::new(Component::Gpu, State::On, "Device A");
        assert_eq!(on.sentence(), "GPU health is being measured: Device A");
        let none = TelemetryStatus::new(Component::Gpu, State::Degraded("no driver".into()), "");
        assert_eq!(none.sentence(), "GPU health is not being measured: no driver");
        let part = TelemetryStatus::new(Component::Prometheus, State::Degraded("taken".into()), "a file");
        assert_eq!(part.sentence(), "Prometheus output is not being served in full: taken; what there is: a file");
        let json = serde_json::to_value(&part).unwrap();
        assert_eq!((json["state"].as_str(), json["reason"].as_str()), (Some("degraded"), Some("taken")));
        assert_eq!(serde_json::from_value::<TelemetryStatus>(json).unwrap(), part);
        assert_eq!(banner(&[off, on]), None);
        assert_eq!(banner(&[none, part]).unwrap(), "[telemetry] degraded: gpu (no driver); prometheus (taken)");
    }
}
