//! NVIDIA's management library, loaded while the program runs. Only this file knows it.

use std::path::Path;

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{cuda_driver_version_major, cuda_driver_version_minor};

use super::error::TelemetryError;
use super::gpu::{GpuMetric, GpuSource};

/// The library, started.
pub(super) struct Nvml(nvml_wrapper::Nvml);

impl Nvml {
    pub(super) fn open(library: Option<&Path>) -> Result<Self, TelemetryError> {
        let opened = match library {
            None => nvml_wrapper::Nvml::init(),
            Some(path) => nvml_wrapper::Nvml::builder().lib_path(path.as_os_str()).init(),
        };
        opened.map(Self).map_err(|error| TelemetryError::Nvml { reason: words(&error) })
    }
}

/// The error without the name of the crate that loads libraries.
fn words(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(source) => source.to_string(),
        other => other.to_string(),
    }
}

impl GpuSource for Nvml {
    fn count(&self) -> Result<u32, String> {
        self.0.device_count().map_err(|error| words(&error))
    }

    fn device_name(&self, idx: u32) -> Result<String, String> {
        self.0.device_by_index(idx).and_then(|device| device.name()).map_err(|error| words(&error))
    }

    fn read(&self, idx: u32, metric: GpuMetric) -> Result<f64, String> {
        let read = || -> Result<f64, NvmlError> {
            let device = self.0.device_by_index(idx)?;
            Ok(match metric {
                GpuMetric::Utilization => f64::from(device.utilization_rates()?.gpu),
                GpuMetric::MemoryUtilization => f64::from(device.utilization_rates()?.memory),
                GpuMetric::MemoryUsed => device.memory_info()?.used as f64,
                GpuMetric::MemoryTotal => device.memory_info()?.total as f64,
                GpuMetric::Temperature => f64::from(device.temperature(TemperatureSensor::Gpu)?),
                // The library counts in milliwatts.
                GpuMetric::Power => f64::from(device.power_usage()?) / 1000.0,
                GpuMetric::SmClock => f64::from(device.clock_info(Clock::SM)?),
                GpuMetric::MemoryClock => f64::from(device.clock_info(Clock::Memory)?),
                GpuMetric::ThrottleReasons => device.current_throttle_reasons()?.bits() as f64,
            })
        };
        read().map_err(|error| words(&error))
    }

    fn driver_version(&self) -> Result<String, String> {
        self.0.sys_driver_version().map_err(|error| words(&error))
    }

    fn cuda_version(&self) -> Result<String, String> {
        let version = self.0.sys_cuda_driver_version().map_err(|error| words(&error))?;
        Ok(format!("{}.{}", cuda_driver_version_major(version), cuda_driver_version_minor(version)))
    }
}
