//! Why something of the telemetry cannot be had. None of it ends a run.

use std::io;
use std::net::SocketAddr;

use codex_core::{ExitClass, Failure, FileError};

/// Something of the telemetry that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The operating system refused a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// NVIDIA's library is absent or does not start.
    #[error("NVML cannot be used: {reason}")]
    Nvml {
        /// What the loader or the library said, in one line.
        reason: String,
    },
    /// The program was built without GPU measurement.
    #[error("this build has no NVML")]
    NvmlNotBuilt,
    /// The text is no address.
    #[error("expected `off` or an address such as `127.0.0.1:9464`, found `{found}`")]
    Address {
        /// The text.
        found: String,
    },
    /// The address is one that other machines reach, and that was not allowed.
    #[error("`{address}` can be reached from other machines, and what it serves is open to all of them")]
    OpenAddress {
        /// The address.
        address: SocketAddr,
    },
    /// Nothing can be served at the address.
    #[error("cannot listen at `{address}`: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No thread could be had to serve from.
    #[error("cannot start the thread that serves `{address}`: {source}")]
    Thread {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A component was asked for and cannot be had, or not in full.
    #[error("{reason}")]
    Degraded {
        /// Why.
        reason: String,
    },
}

impl TelemetryError {
    /// A short name of the kind for programs, as events carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File(_) => "file_failed",
            Self::Nvml { .. } => "nvml_unusable",
            Self::NvmlNotBuilt => "nvml_not_built",
            Self::Address { .. } => "address_unreadable",
            Self::OpenAddress { .. } => "address_open_to_others",
            Self::Listen { .. } => "address_unavailable",
            Self::Thread { .. } => "thread_refused",
            Self::Degraded { .. } => "degraded",
        }
    }
}

impl Failure for TelemetryError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::File(error) => error.exit_class(),
            Self::Nvml { .. } | Self::NvmlNotBuilt | Self::Listen { .. } | Self::Thread { .. } | Self::Degraded { .. } => ExitClass::Io,
            Self::Address { .. } | Self::OpenAddress { .. } => ExitClass::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::File(error) => return error.hint(),
            Self::Nvml { .. } => {
                "install NVIDIA's driver (in a container, `NVIDIA_DRIVER_CAPABILITIES` must include `utility`), or set `telemetry.gpu` to false"
            }
            Self::NvmlNotBuilt => "build with `--features codex-track/nvml`, or set `telemetry.gpu` to false",
            Self::Address { .. } => "give an address by its numbers and a port; names are not looked up",
            Self::OpenAddress { .. } => "use `127.0.0.1`, or set `telemetry.prometheus_any_host` to true",
            Self::Listen { .. } => "give `telemetry.prometheus` a port that no other program uses",
            Self::Thread { .. } => "raise the limit of threads (`ulimit -u`)",
            Self::Degraded { .. } => "the run goes on without it; `codex-cli doctor` says what this machine can measure",
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_code_class_and_hint() {
        let address: SocketAddr = "127.0.0.1:9464".parse().unwrap();
        let refused = || io::Error::from(io::ErrorKind::AddrInUse);
        let errors = [
            (TelemetryError::Nvml { reason: "absent".into() }, "nvml_unusable", 5, "NVML cannot be used: absent"),
            (TelemetryError::NvmlNotBuilt, "nvml_not_built", 5, "this build has no NVML"),
            (
                TelemetryError::Address { found: "x".into() },
                "address_unreadable",
                2,
                "expected `off` or an address such as `127.0.0.1:9464`, found `x`",
            ),
            (
                TelemetryError::OpenAddress { address },
                "address_open_to_others",
                2,
                "`127.0.0.1:9464` can be reached from other machines, and what it serves is open to all of them",
            ),
            (
                TelemetryError::Listen { address, source: refused() },
                "address_unavailable",
                5,
                "cannot listen at `127.0.0.1:9464`: address in use",
            ),
            (
                TelemetryError::Thread { address, source: refused() },
                "thread_refused",
                5,
                "cannot start the thread that serves `127.0.0.1:9464`: address in use",
            ),
            (TelemetryError::Degraded { reason: "absent".into() }, "degraded", 5, "absent"),
        ];
        for (error, code, class, message) in errors {
            assert_eq!((error.code(), error.exit_class().code(), error.to_string().as_str()), (code, class, message));
            assert!(error.hint().is_some(), "{message}");
        }
        let file = TelemetryError::from(FileError::new("open", std::path::Path::new("x"), io::Error::from(io::ErrorKind::NotFound)));
        assert_eq!((file.code(), file.exit_class().code()), ("file_failed", 5));
    }
}
