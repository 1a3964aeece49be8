//! What of the telemetry works: a state for each component, and the words for it. It measures nothing but whether something can be measured.

use std::collections::BTreeSet;
use std::path::Path;

use codex_core::failure;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::TelemetryConfig;
use super::gpu::{GpuInventory, open_nvml};
use super::server;
use crate::event::Level;
use crate::system::{DiskSampler, ProcSampler, SystemSampler};
use crate::tracker::Degraded;

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
            State::Degraded(reason) => format!("{subject} is not being {verb} in full: {reason}; instead: {}", self.what_is_measured),
        }
    }

    /// The status as the tracker's banner has it; `None` unless something that was asked for cannot be had.
    pub fn degraded(&self) -> Option<Degraded> {
        let State::Degraded(reason) = &self.state else { return None };
        Some(Degraded { component: self.component.name().to_owned(), reason: reason.clone() })
    }
}

/// The banner `[telemetry] degraded: …` of these; `None` when all that was asked for is there.
pub fn banner(all: &[TelemetryStatus]) -> Option<String> {
    Degraded::banner(&all.iter().filter_map(TelemetryStatus::degraded).collect::<Vec<_>>())
}

/// Which components an event was written for.
#[derive(Clone, Debug, Default)]
pub struct Announced(BTreeSet<Component>);

impl Announced {
    /// The events of those that are degraded and have none yet: kind, level, message and fields, as [`Tracker::event`](crate::Tracker::event) takes
    /// them.
    pub fn events(&mut self, all: &[TelemetryStatus]) -> Vec<(&'static str, Level, String, Value)> {
        let fresh =
            all.iter().filter_map(|status| Some((status, status.degraded()?))).filter(|(status, _)| self.0.insert(status.component));
        let event = |(status, degraded): (&TelemetryStatus, Degraded)| {
            let fields = json!({ "component": degraded.component, "reason": degraded.reason, "measured": status.what_is_measured });
            ("degraded", Level::Warn, status.sentence(), fields)
        };
        fresh.map(event).collect()
    }
}

/// What this machine can measure of what the config asks for, found by trying: for `doctor`, and for a run before its first step. `folder` is where
/// the run is, `nvml` where NVIDIA's library is; `None` looks where the system looks.
pub fn survey(config: &TelemetryConfig, folder: &Path, nvml: Option<&Path>) -> Vec<TelemetryStatus> {
    use Component::{Cpu, Disk, Gpu, Memory, Prometheus, Tracing};
    let is_on = config.every_seconds > 0.0;
    let sampled = |component, tried: Result<String, String>| match tried {
        Ok(what) => TelemetryStatus::new(component, State::On, &what),
        Err(reason) => TelemetryStatus::new(component, State::Degraded(reason), ""),
    };
    let off = |component| TelemetryStatus::new(component, State::Off, "");
    let mut all = Vec::new();
    if is_on {
        let process = ProcSampler::new().sample();
        let words = |what: &str| process.as_ref().map(|_| what.to_owned()).map_err(|error| failure::chain(error));
        all.push(sampled(Cpu, words("use, load, and this process's time, threads, files and bytes")));
        all.push(sampled(Memory, words("memory and swap in use, and this process's part")));
        let disk = DiskSampler::new(folder).sample();
        all.push(sampled(Disk, disk.map(|_| "free and total space where the run is".to_owned()).map_err(|error| failure::chain(&error))));
    } else {
        all.extend([off(Cpu), off(Memory), off(Disk)]);
    }
    all.push(if config.gpu { sampled(Gpu, gpu(nvml)) } else { off(Gpu) });
    all.push(match config.prometheus_address() {
        Ok(None) => match &config.prometheus_file {
            None => off(Prometheus),
            Some(path) => TelemetryStatus::new(Prometheus, State::On, &format!("the file `{}`", path.display())),
        },
        Ok(Some(address)) => sampled(Prometheus, server::probe(address).map_err(|error| failure::chain(&error))),
        Err(error) => sampled(Prometheus, Err(failure::chain(&error))),
    });
    all.push(if config.trace { TelemetryStatus::new(Tracing, State::On, "spans of the loop") } else { off(Tracing) });
    all
}

fn gpu(nvml: Option<&Path>) -> Result<String, String> {
    let inventory = GpuInventory::take(&open_nvml(nvml));
    let reason = || inventory.reason.clone().unwrap_or_else(|| "NVML lists no device".to_owned());
    let devices = inventory.devices.as_ref().filter(|devices| !devices.is_empty()).ok_or_else(reason)?;
    let names: Vec<&str> = devices.iter().map(|device| device.name.as_deref().unwrap_or("a device without a name")).collect();
    Ok(names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOWHERE: &str = "/nonexistent/libnvidia-ml.so.1";

    fn survey_of(config: &TelemetryConfig) -> Vec<TelemetryStatus> {
        let folder = tempfile::tempdir().unwrap();
        let mut all = survey(config, folder.path(), Some(Path::new(NOWHERE)));
        // A container may hide its disks, which is not what these tests are about.
        all.retain(|status| status.component != Component::Disk);
        all
    }

    #[test]
    fn a_gpu_that_was_not_asked_for_is_no_line_and_one_that_was_is_exactly_one() {
        let quiet = survey_of(&TelemetryConfig::default());
        assert_eq!(banner(&quiet), None);
        assert_eq!(quiet[2].sentence(), "GPU health is not being measured: it was not asked for");
        let asked = survey_of(&TelemetryConfig { gpu: true, ..TelemetryConfig::default() });
        let line = banner(&asked).unwrap();
        assert!(
            line.starts_with("[telemetry] degraded: gpu (") && line.lines().count() == 1 && line.matches("gpu (").count() == 1,
            "{line}"
        );
        assert!(asked[2].sentence().starts_with("GPU health is not being measured: "), "{}", asked[2].sentence());
    }

    #[test]
    fn a_component_is_announced_once() {
        let asked = survey_of(&TelemetryConfig { gpu: true, ..TelemetryConfig::default() });
        let mut announced = Announced::default();
        let events = announced.events(&asked);
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].0, events[0].1, &events[0].3["component"]), ("degraded", Level::Warn, &json!("gpu")));
        assert!(announced.events(&asked).is_empty());
    }

    #[test]
    fn what_is_off_is_said_to_be_off() {
        let all = survey_of(&TelemetryConfig { every_seconds: 0.0, ..TelemetryConfig::default() });
        assert!(all.iter().all(|status| status.state == State::Off), "{all:?}");
        let json = serde_json::to_value(&all[0]).unwrap();
        assert_eq!(json, json!({ "component": "cpu", "state": "off", "what_is_measured": "" }));
        let degraded = TelemetryStatus::new(Component::Prometheus, State::Degraded("taken".into()), "a file");
        assert_eq!(degraded.sentence(), "Prometheus output is not being served in full: taken; instead: a file");
        let json = serde_json::to_value(&degraded).unwrap();
        assert_eq!((json["state"].as_str(), json["reason"].as_str()), (Some("degraded"), Some("taken")));
        assert_eq!(serde_json::from_value::<TelemetryStatus>(json).unwrap(), degraded);
    }

    #[test]
    fn an_address_is_tried() {
        let at = |prometheus: &str| survey_of(&TelemetryConfig { prometheus: prometheus.into(), ..TelemetryConfig::default() })[3].clone();
        assert_eq!(at("127.0.0.1:0").state, State::On);
        let State::Degraded(reason) = at("0.0.0.0:0").state else { panic!("expected a refusal") };
        assert!(reason.contains("other machines"), "{reason}");
        let file = TelemetryConfig { prometheus_file: Some("a.prom".into()), trace: true, ..TelemetryConfig::default() };
        let all = survey_of(&file);
        assert_eq!((all[3].what_is_measured.as_str(), &all[4].state), ("the file `a.prom`", &State::On));
    }
}
