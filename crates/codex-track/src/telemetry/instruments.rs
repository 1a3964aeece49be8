//! The instruments of a run, found by trying each: what works is kept, and what was asked for and does not is a status. Nothing is tried that was not
//! asked for.

use std::path::Path;
use std::sync::Arc;

use codex_core::{Clock, failure};

use super::config::TelemetryConfig;
use super::error::TelemetryError;
use super::gpu::{GpuSampler, GpuSource, open_nvml};
use super::prometheus::Prometheus;
use super::server;
use super::status::{Component, State, TelemetryStatus};
use super::trace::{self, Trace};
use crate::error::TrackError;
use crate::run_dir::RunDir;
use crate::system::{DiskSampler, ProcSampler, Sampling, SystemSampler};

/// What a run is measured with.
#[derive(Debug)]
pub struct Telemetry {
    /// The samplers that work, for [`Tracker::sample_system`](crate::Tracker::sample_system).
    pub sampling: Sampling,
    /// What Prometheus reads, where it was asked for.
    pub prometheus: Option<Prometheus>,
    /// What takes spans, where it was asked for and can be had.
    pub trace: Option<Trace>,
    /// Each component and whether it works.
    pub statuses: Vec<TelemetryStatus>,
}

impl Telemetry {
    /// Opens what the config asks for. `nvml` is where NVIDIA's library is; `None` looks where the system looks. What cannot be had is in
    /// [`statuses`](Self::statuses), and is no error.
    pub fn open(run: &RunDir, config: &TelemetryConfig, nvml: Option<&Path>, clock: &Arc<dyn Clock>) -> Self {
        let (samplers, mut statuses) = samplers(config, run.path(), config.gpu.then(|| open_nvml(nvml)));
        let prometheus = Prometheus::open(run, config, clock);
        let off = |component| TelemetryStatus::new(component, State::Off, "");
        statuses.push(prometheus.as_ref().map_or_else(|| off(Component::Prometheus), |prometheus| prometheus.status().clone()));
        let path = run.path().join(trace::FILE);
        let (trace, status) = match config.trace.then(|| trace::put_away(&path).and_then(|()| Trace::start(&path, Arc::clone(clock)))) {
            None => (None, off(Component::Tracing)),
            Some(Ok(trace)) => (Some(trace), TelemetryStatus::new(Component::Tracing, State::On, TRACED)),
            Some(Err(error)) => (None, TelemetryStatus::new(Component::Tracing, State::Degraded(failure::chain(&error)), "")),
        };
        statuses.push(status);
        Self { sampling: Sampling::with(samplers, config.every_seconds), prometheus, trace, statuses }
    }
}

const TRACED: &str = "the spans of the loop";

/// What this machine can measure of what the config asks for, for `doctor`; `folder` is where runs go. An address is tried and given back, and no
/// file is written.
pub fn survey(config: &TelemetryConfig, folder: &Path, nvml: Option<&Path>) -> Vec<TelemetryStatus> {
    let (_, mut all) = samplers(config, folder, config.gpu.then(|| open_nvml(nvml)));
    let tried = match (config.prometheus_address(), &config.prometheus_file) {
        (Ok(None), None) => None,
        (Ok(None), Some(path)) => Some(Ok(format!("the file `{}`", path.display()))),
        (Ok(Some(address)), _) => Some(server::probe(address)),
        (Err(error), _) => Some(Err(error)),
    };
    all.push(match tried {
        None => TelemetryStatus::new(Component::Prometheus, State::Off, ""),
        Some(Ok(what)) => TelemetryStatus::new(Component::Prometheus, State::On, &what),
        Some(Err(error)) => TelemetryStatus::new(Component::Prometheus, State::Degraded(failure::chain(&error)), ""),
    });
    let (state, what) = if config.trace { (State::On, TRACED) } else { (State::Off, "") };
    all.push(TelemetryStatus::new(Component::Tracing, state, what));
    all
}

type Samplers = Vec<Box<dyn SystemSampler>>;

/// The samplers that gave a sample, and a status for each component. `gpu` is the source where GPUs were asked for.
fn samplers(
    config: &TelemetryConfig,
    folder: &Path,
    gpu: Option<Result<Box<dyn GpuSource>, TelemetryError>>,
) -> (Samplers, Vec<TelemetryStatus>) {
    let mut kept: Samplers = Vec::new();
    let mut statuses = Vec::new();
    let mut keep = |sampler: Option<Box<dyn SystemSampler>>, components: &[(Component, String)]| {
        let Some(mut sampler) = sampler else {
            statuses.extend(components.iter().map(|(component, _)| TelemetryStatus::new(*component, State::Off, "")));
            return;
        };
        let tried = sampler.sample();
        let absent: Vec<String> = sampler.newly_absent().into_iter().map(|(names, reason)| format!("{names}: {reason}")).collect();
        for (component, what) in components {
            statuses.push(match &tried {
                Ok(_) if absent.is_empty() => TelemetryStatus::new(*component, State::On, what),
                Ok(_) => TelemetryStatus::new(*component, State::Degraded(absent.join("; ")), what),
                // The component is named already.
                Err(TrackError::Sampler { reason, .. }) => TelemetryStatus::new(*component, State::Degraded(reason.clone()), ""),
                Err(error) => TelemetryStatus::new(*component, State::Degraded(failure::chain(error)), ""),
            });
        }
        if tried.is_ok() {
            kept.push(sampler);
        }
    };
    let is_on = config.every_seconds > 0.0;
    let process = [
        (Component::Cpu, "use, load, and the time, threads, files and bytes of this process".to_owned()),
        (Component::Memory, "memory and swap in use, and the part of this process".to_owned()),
    ];
    keep(is_on.then(|| Box::new(ProcSampler::new()) as Box<dyn SystemSampler>), &process);
    let disk = [(Component::Disk, "free and total space where the run is".to_owned())];
    keep(is_on.then(|| Box::new(DiskSampler::new(folder)) as Box<dyn SystemSampler>), &disk);
    let gpu = gpu.filter(|_| is_on).map(GpuSampler::new);
    let names = gpu.as_ref().map(|gpu| gpu.inventory().names()).unwrap_or_default();
    keep(gpu.map(|gpu| Box::new(gpu) as Box<dyn SystemSampler>), &[(Component::Gpu, names)]);
    (kept, statuses)
}

#[cfg(test)]
mod tests {
    use super::super::gpu::tests::Scripted;
    use super::super::status::{banner, report};
    use super::*;
    use crate::config::TrackConfig;
    use crate::tracker::Tracker;
    use codex_core::SystemClock;

    const NOWHERE: &str = "/nonexistent/libnvidia-ml.so.1";

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock::new())
    }

    /// Without the disk, which a container may hide.
    fn but_disk(mut all: Vec<TelemetryStatus>) -> Vec<TelemetryStatus> {
        all.retain(|status| status.component != Component::Disk);
        all
    }

    fn survey_of(config: &TelemetryConfig) -> Vec<TelemetryStatus> {
        let folder = tempfile::tempdir().unwrap();
        let all = survey(config, folder.path(), Some(Path::new(NOWHERE)));
        assert!(codex_core::files::list_dir(folder.path()).unwrap().is_empty());
        but_disk(all)
    }

    #[test]
    fn a_gpu_that_was_not_asked_for_is_no_line_and_one_that_was_is_exactly_one() {
        for (gpu, n_lines) in [(false, 0), (true, 1)] {
            let dir = tempfile::tempdir().unwrap();
            let run = RunDir::open(dir.path()).unwrap();
            let config = TelemetryConfig { gpu, ..TelemetryConfig::default() };
            let mut tracker = Tracker::open(&run, None, None, clock(), &TrackConfig::default()).unwrap();
            let mut telemetry = Telemetry::open(&run, &config, Some(Path::new(NOWHERE)), &clock());
            let statuses = but_disk(telemetry.statuses);
            report(&statuses, &mut tracker);
            report(&statuses, &mut tracker);
            let (values, failures) = telemetry.sampling.sample();
            assert!(values.contains_key("cpu_percent") && failures.is_empty(), "{failures:?}");
            let degraded = tracker.degraded().to_vec();
            assert_eq!(degraded.len(), n_lines, "{degraded:?}");
            let events = codex_core::files::read_to_string(&dir.path().join("events.ndjson")).unwrap();
            assert_eq!(events.matches("\"kind\":\"degraded\"").count(), n_lines, "{events}");
            let line = banner(&statuses);
            assert_eq!(line.as_ref().map_or(0, |line| line.lines().count()), n_lines);
            assert!(
                line.is_none_or(|line| line.starts_with("[telemetry] degraded: gpu (NVML cannot be used: ") || cfg!(not(feature = "nvml")))
            );
        }
    }

    #[test]
    fn a_gpu_that_tells_a_part_is_measured_in_part_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let config = TelemetryConfig { gpu: true, ..TelemetryConfig::default() };
        let (mut kept, statuses) = samplers(&config, dir.path(), Some(Ok(Box::new(Scripted::default()))));
        let gpu = statuses.iter().find(|status| status.component == Component::Gpu).unwrap();
        let expected = "GPU health is not being measured in full: gpu1_power_watts, gpu1_throttle_reasons: not supported; what there is: \
                        Device A, a device without a name";
        assert_eq!(gpu.sentence(), expected);
        let sampler = kept.last_mut().unwrap();
        assert!(sampler.sample().unwrap().contains_key("gpu0_power_watts"));
        assert_eq!(sampler.newly_absent(), [("gpu1_temperature_celsius".to_owned(), "lost".to_owned())]);
    }

    #[test]
    fn what_is_off_is_said_to_be_off() {
        let all = survey_of(&TelemetryConfig { every_seconds: 0.0, gpu: true, ..TelemetryConfig::default() });
        assert!(all.iter().all(|status| status.state == State::Off), "{all:?}");
        assert_eq!(all.iter().map(|status| status.component.name()).collect::<Vec<_>>(), ["cpu", "memory", "gpu", "prometheus", "tracing"]);
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

    #[test]
    fn each_process_has_a_trace_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        let config = TelemetryConfig { trace: true, ..TelemetryConfig::default() };
        for span in ["first", "second", "third"] {
            let trace = Telemetry::open(&run, &config, None, &clock()).trace.unwrap();
            drop(trace.span(span));
            assert!(trace.finish().error.is_none());
        }
        for (name, span) in [("trace-1.json", "first"), ("trace-2.json", "second"), (trace::FILE, "third")] {
            let text = codex_core::files::read_to_string(&dir.path().join(name)).unwrap();
            assert!(text.contains(&format!("\"{span}\"")), "{name}: {text}");
        }
    }

    #[test]
    fn a_trace_that_cannot_be_written_is_a_status() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        let config = TelemetryConfig { trace: true, ..TelemetryConfig::default() };
        assert!(Telemetry::open(&run, &config, None, &clock()).trace.is_some());
        codex_core::files::remove_file(&dir.path().join(trace::FILE)).unwrap();
        codex_core::files::create_dir_all(&dir.path().join(trace::FILE)).unwrap();
        let telemetry = Telemetry::open(&run, &config, None, &clock());
        assert!(telemetry.trace.is_none());
        assert!(matches!(&telemetry.statuses.last().unwrap().state, State::Degraded(reason) if reason.contains("trace.json")));
    }
}
