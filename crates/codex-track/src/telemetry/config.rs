//! What is measured of the machine and where it is shown: the `[telemetry]` table of a config.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::TelemetryError;

/// What `prometheus` says when nothing is served.
const OFF: &str = "off";

/// The `[telemetry]` table, exactly as a file says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Seconds between two samples of the machine in `system.ndjson`; 0 takes none.
    pub every_seconds: f64,
    /// Whether NVIDIA GPUs are sampled too, through NVML. Where it cannot be had, the run goes on and says so once.
    pub gpu: bool,
    /// The address at which Prometheus can read the run's metrics, such as `127.0.0.1:9464`, or `off`. Where it cannot be had, the metrics go to
    /// `prometheus.ndjson` in the run folder.
    pub prometheus: String,
    /// Whether `prometheus` may be an address that other machines reach; what is served there is open to all of them.
    pub prometheus_any_host: bool,
    /// A file ending in `.prom` that is kept up to date for the textfile collector of node_exporter. Left out, none is written.
    pub prometheus_file: Option<PathBuf>,
    /// Whether the spans of the loop go to `trace.json` in the run folder, which Perfetto and Chrome show.
    pub trace: bool,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { every_seconds: 5.0, gpu: false, prometheus: OFF.to_owned(), prometheus_any_host: false, prometheus_file: None, trace: false }
    }
}

impl TelemetryConfig {
    /// The key and message of each value that cannot be used.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut note = |key: &str, message: String| problems.push((key.to_owned(), message));
        let seconds = self.every_seconds;
        if !(seconds.is_finite() && (seconds == 0.0 || seconds >= 0.1)) {
            note("every_seconds", format!("expected 0, or at least 0.1, found `{seconds}`"));
        }
        if self.gpu && seconds == 0.0 {
            note("gpu", "expected `false` where `every_seconds` is 0, since nothing is sampled".to_owned());
        }
        if let Err(error) = self.prometheus_address() {
            note("prometheus", error.to_string());
        }
        if let Some(path) = &self.prometheus_file
            && path.extension().is_none_or(|end| end != "prom")
        {
            note(
                "prometheus_file",
                format!("expected a file ending in `.prom`, which is all that node_exporter reads, found `{}`", path.display()),
            );
        }
        problems
    }

    /// Where metrics are served; `None` when they are not. No name but `localhost` is looked up.
    pub fn prometheus_address(&self) -> Result<Option<SocketAddr>, TelemetryError> {
        let text = self.prometheus.trim();
        if text == OFF {
            return Ok(None);
        }
        let localhost = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        let address = localhost.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).or_else(|| text.parse().ok());
        let address = address.ok_or_else(|| TelemetryError::Address { found: text.to_owned() })?;
        if !address.ip().is_loopback() && !self.prometheus_any_host {
            return Err(TelemetryError::OpenAddress { address });
        }
        Ok(Some(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let config: TelemetryConfig = toml::from_str(text).unwrap();
        config.problems().into_iter().map(|(key, message)| format!("{key}: {message}")).collect()
    }

    #[test]
    fn nothing_is_asked_for_by_default_but_the_machine() {
        let config: TelemetryConfig = toml::from_str("").unwrap();
        assert_eq!(config, TelemetryConfig::default());
        assert!(!config.gpu && !config.trace && config.prometheus_file.is_none() && config.problems().is_empty());
        assert_eq!(config.prometheus_address().unwrap(), None);
        assert!(toml::from_str::<TelemetryConfig>("gpus = true").is_err());
    }

    #[test]
    fn each_value_that_cannot_be_used_is_named() {
        for seconds in ["0", "0.1", "60"] {
            assert!(problems(&format!("every_seconds = {seconds}")).is_empty(), "{seconds}");
        }
        for seconds in ["-1", "0.01", "nan", "inf"] {
            assert_eq!(problems(&format!("every_seconds = {seconds}")).len(), 1, "{seconds}");
        }
        let all = problems("every_seconds = 0.0\ngpu = true\nprometheus = \"0.0.0.0:9464\"\nprometheus_file = \"codex.txt\"");
        assert_eq!(
            all,
            [
                "gpu: expected `false` where `every_seconds` is 0, since nothing is sampled",
                "prometheus: `0.0.0.0:9464` can be reached from other machines, and what it serves is open to all of them",
                "prometheus_file: expected a file ending in `.prom`, which is all that node_exporter reads, found `codex.txt`",
            ]
        );
    }

    #[test]
    fn addresses_are_read_without_asking_anyone() {
        let read = |text: &str, any| {
            let config = TelemetryConfig { prometheus: text.to_owned(), prometheus_any_host: any, ..TelemetryConfig::default() };
            config.prometheus_address().map(|address| address.map(|address| address.to_string())).map_err(|error| error.to_string())
        };
        assert_eq!(read("127.0.0.1:9464", false).unwrap().unwrap(), "127.0.0.1:9464");
        assert_eq!(read("localhost:9464", false).unwrap().unwrap(), "127.0.0.1:9464");
        assert_eq!(read("[::1]:0", false).unwrap().unwrap(), "[::1]:0");
        assert_eq!(read("0.0.0.0:9464", true).unwrap().unwrap(), "0.0.0.0:9464");
        assert!(read("192.168.1.7:9464", false).is_err());
        for wrong in ["", "on", "9464", "127.0.0.1", "example.org:9464", "127.0.0.1:99999", "http://127.0.0.1:9464"] {
            let error = read(wrong, true).unwrap_err();
            assert_eq!(error, format!("expected `off` or an address such as `127.0.0.1:9464`, found `{wrong}`"));
        }
    }
}
