//! NVIDIA's library as it is really loaded: absent, no library at all, and a small one with its functions that the system's compiler makes here. Its
//! second device supports little, and one function is missing from it altogether.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use codex_core::{SystemClock, files};
use codex_track::telemetry::{Component, GpuInventory, GpuSampler, State, Telemetry, TelemetryConfig, open_nvml, survey};
use codex_track::{RunDir, SystemSampler};

/// Status 3 is "not supported". The temperature is not there.
const LIBRARY: &str = r#"
#include <stdio.h>
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory;
typedef struct { unsigned gpu, memory; } use;
static int devices[2];
static int second(void *device) { return device == &devices[1]; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned n) { snprintf(text, n, "570.86.15"); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12080; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned idx, void **device) { if (idx > 1) return 2; *device = &devices[idx]; return 0; }
int nvmlDeviceGetName(void *device, char *text, unsigned n) { snprintf(text, n, "Device %c", second(device) ? 'B' : 'A'); return 0; }
int nvmlDeviceGetUtilizationRates(void *device, use *found) { if (second(device)) return 3; found->gpu = 87; found->memory = 41; return 0; }
int nvmlDeviceGetMemoryInfo_v2(void *device, memory *found) { found->total = 8000000000ull; found->used = second(device) ? 1000 : 2000; return 0; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { if (second(device)) return 3; *milliwatts = 312500; return 0; }
int nvmlDeviceGetClockInfo(void *device, int clock, unsigned *mhz) { *mhz = clock == 1 ? 1980 : clock == 2 ? 2619 : 0; return 0; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *bits) { if (second(device)) return 3; *bits = 0x4; return 0; }
"#;

fn library(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("library.c"), folder.join("libnvidia-ml.so.1"));
    files::write_atomic(&source, LIBRARY.as_bytes()).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(made.success());
    library
}

#[test]
fn readings_come_with_their_units_and_what_is_not_supported_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open_nvml(Some(&library(dir.path())));
    let inventory = GpuInventory::take(&opened);
    assert_eq!(
        (inventory.names().as_str(), inventory.driver.as_deref(), inventory.cuda.as_deref()),
        ("Device A, Device B", Some("570.86.15"), Some("12.8"))
    );
    assert_eq!(inventory.reason, None);
    let mut sampler = GpuSampler::new(opened);
    let values = sampler.sample().unwrap();
    let expected = [
        ("gpu0_memory_clock_mhz", 2619.0),
        ("gpu0_memory_total_bytes", 8e9),
        ("gpu0_memory_used_bytes", 2000.0),
        ("gpu0_memory_utilization_percent", 41.0),
        ("gpu0_power_watts", 312.5),
        ("gpu0_sm_clock_mhz", 1980.0),
        ("gpu0_throttle_reasons", 4.0),
        ("gpu0_utilization_percent", 87.0),
        ("gpu1_memory_clock_mhz", 2619.0),
        ("gpu1_memory_total_bytes", 8e9),
        ("gpu1_memory_used_bytes", 1000.0),
        ("gpu1_sm_clock_mhz", 1980.0),
        ("gpu_count", 2.0),
    ];
    assert_eq!(values.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>(), expected);
    let absent = sampler.newly_absent();
    let names: Vec<&str> = absent.iter().map(|(names, _)| names.as_str()).collect();
    let unsupported = "gpu1_utilization_percent, gpu1_memory_utilization_percent, gpu1_power_watts, gpu1_throttle_reasons";
    assert!(names.contains(&unsupported) && names.contains(&"gpu0_temperature_celsius, gpu1_temperature_celsius"), "{absent:?}");
    assert!(absent.iter().any(|(_, reason)| reason.contains("nvmlDeviceGetTemperature")), "{absent:?}");
    sampler.sample().unwrap();
    assert!(sampler.newly_absent().is_empty());
}

#[test]
fn a_file_that_is_no_library_or_lacks_all_of_it_is_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.so");
    files::write_atomic(&text, b"no library").unwrap();
    let (source, empty) = (dir.path().join("empty.c"), dir.path().join("empty.so"));
    files::write_atomic(&source, b"int nothing;\n").unwrap();
    assert!(Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&empty, &source]).status().unwrap().success());
    for path in [text, empty, dir.path().join("absent.so")] {
        let error = open_nvml(Some(&path)).err().unwrap();
        assert_eq!(error.code(), "nvml_unusable");
        let said = error.to_string();
        assert!(said.starts_with("NVML cannot be used: ") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_run_samples_the_gpus_that_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(dir.path()).unwrap();
    let path = library(dir.path());
    let config = TelemetryConfig { gpu: true, ..TelemetryConfig::default() };
    let clock: Arc<dyn codex_core::Clock> = Arc::new(SystemClock::new());
    let (values, _) = Telemetry::open(&run, &config, Some(&path), &clock).sampling.sample();
    assert!((values["gpu0_power_watts"] - 312.5).abs() < 1e-9 && values.contains_key("cpu_percent"), "{values:?}");
    let (values, _) = Telemetry::open(&run, &TelemetryConfig::default(), Some(&path), &clock).sampling.sample();
    assert!(!values.contains_key("gpu_count"), "{values:?}");
    let all = survey(&config, dir.path(), Some(&path));
    let gpu = all.iter().find(|status| status.component == Component::Gpu).unwrap();
    assert_eq!(gpu.what_is_measured, "Device A, Device B");
    assert!(matches!(&gpu.state, State::Degraded(reason) if reason.contains("gpu1_power_watts")), "{gpu:?}");
}
