//! `doctor`: what this machine and this build can do.

use nvml_wrapper::Nvml;
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
    let gpu = gpu();
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
        "gpu": match &gpu { Ok(found) => json!({ "nvml": true, "devices": found }), Err(reason) => json!({ "nvml": false, "reason": reason }) },
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
        rows.push(vec![
            "NVIDIA GPU".to_owned(),
            match &gpu {
                Ok(found) if found.is_empty() => "NVML works; it lists no device".to_owned(),
                Ok(found) => found.join(", "),
                Err(reason) => format!("not measured: {reason}"),
            },
        ]);
        table(&["", "found"], rows)
    })
}

/// The names of the NVIDIA devices, or why they cannot be known.
fn gpu() -> Result<Vec<String>, String> {
    let nvml = Nvml::init().map_err(|error| error.to_string())?;
    let count = nvml.device_count().map_err(|error| error.to_string())?;
    (0..count).map(|i| nvml.device_by_index(i).and_then(|device| device.name()).map_err(|error| error.to_string())).collect()
}
