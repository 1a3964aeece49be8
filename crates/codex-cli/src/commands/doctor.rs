//! `doctor`: what this machine and this build can do.

use std::path::Path;

use codex_track::telemetry::{State, TelemetryConfig, survey};
use serde_json::json;

use crate::failure::CliError;
use crate::provenance;
use crate::run_config::RunSection;
use crate::terminal::{Terminal, bytes, table};
use crate::{device, memory};

pub(super) fn run(terminal: &Terminal) -> Result<(), CliError> {
    // Used as a training run would.
    memory::set_pool(RunSection::default().pool_mib);
    memory::warm_up();
    let environment = provenance::environment_now(device::open("auto")?.1);
    let asked = TelemetryConfig { gpu: true, ..TelemetryConfig::default() };
    let measured = survey(&asked, Path::new("."), None);
    let devices: Vec<_> = device::NAMES
        .iter()
        .filter(|name| **name != "auto")
        .map(|name| {
            let there = device::compiled_in().contains(name);
            (*name, there, if there { "compiled in".to_owned() } else { format!("build with `--features {name}`") })
        })
        .collect();
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"), "rustc": provenance::RUSTC, "profile": provenance::PROFILE, "target": provenance::TARGET,
        "binary_blake3": provenance::binary_digest(), "dependencies_blake3": provenance::LOCK_DIGEST,
        "devices": devices.iter().map(|(name, there, note)| json!({ "name": name, "compiled_in": there, "note": note })).collect::<Vec<_>>(),
        "instruction_set": device::instruction_set_of("flex"), "pool": memory::pool_report(),
        "default_device": device::open("auto")?.1, "environment": environment,
        "telemetry": measured,
    });
    terminal.result(&value, || {
        let mut rows = vec![
            vec![
                "program".to_owned(),
                format!("codex-cli {} ({}, {})", env!("CARGO_PKG_VERSION"), provenance::PROFILE, provenance::TARGET),
            ],
            vec!["compiler".to_owned(), provenance::RUSTC.to_owned()],
            vec!["processor".to_owned(), format!("{} x {}", environment.cpu.logical_cores, environment.cpu.brand)],
            vec!["instruction sets".to_owned(), environment.cpu.flags.join(" ")],
            vec!["kernels".to_owned(), device::instruction_set_of("flex").to_owned()],
            vec!["memory".to_owned(), bytes(environment.memory_total_bytes)],
            vec!["memory pool".to_owned(), memory::pool_summary()],
        ];
        rows.extend(devices.iter().map(|(name, _, note)| vec![format!("device {name}"), note.clone()]));
        let asked_for = measured.iter().filter(|status| status.state != State::Off);
        rows.extend(asked_for.map(|status| vec![format!("telemetry {}", status.component.name()), status.sentence()]));
        table(&["", "found"], rows)
    })
}
