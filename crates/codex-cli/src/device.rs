//! The device: the only place where a backend is named and a `Device` made.

use burn::tensor::Device;

use crate::failure::CliError;

/// What `--device` and `run.device` may say.
pub(crate) const NAMES: [&str; 5] = ["auto", "flex", "ndarray", "wgpu", "cuda"];

/// The backends compiled into this program, the preferred one first.
pub(crate) fn compiled_in() -> Vec<&'static str> {
    let all = [
        ("flex", cfg!(feature = "flex")),
        ("ndarray", cfg!(feature = "ndarray")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("cuda", cfg!(feature = "cuda")),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

/// The device of this name, and the name it resolved to.
#[cfg_attr(
    feature = "ndarray",
    expect(deprecated, reason = "burn-ndarray is the reference that flex is compared with, for as long as it exists")
)]
pub(crate) fn open(name: &str) -> Result<(Device, &'static str), CliError> {
    let wanted = if name == "auto" { compiled_in().first().copied().unwrap_or("none") } else { name };
    match wanted {
        #[cfg(feature = "flex")]
        "flex" => Ok((Device::flex(), "flex")),
        #[cfg(feature = "ndarray")]
        "ndarray" => Ok((Device::ndarray(), "ndarray")),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok((Device::wgpu(burn::tensor::DeviceKind::DefaultDevice), "wgpu")),
        #[cfg(feature = "cuda")]
        "cuda" => Ok((Device::cuda(0), "cuda")),
        other if NAMES.contains(&other) || other == "none" => {
            Err(CliError::NotCompiledIn { device: name.to_owned(), compiled_in: compiled_in() })
        }
        other => Err(CliError::UnknownDevice { device: other.to_owned() }),
    }
}

/// What is promised of the bits of a run on a device.
pub(crate) fn promise(device_name: &str) -> &'static str {
    match device_name {
        "flex" | "ndarray" => "bit-exact: the same program on the same kind of processor gives the same bytes at any thread count",
        _ => "by tolerance: a GPU may add in another order",
    }
}

/// Sets how many threads the CPU backends use; 0 leaves one per core.
pub(crate) fn set_threads(threads: usize) -> Result<(), CliError> {
    if threads == 0 {
        return Ok(());
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| CliError::Threads { threads, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_open_absent_or_unknown() {
        assert!(!compiled_in().is_empty());
        assert_eq!(open("auto").unwrap().1, compiled_in()[0]);
        assert!(matches!(open("tpu"), Err(CliError::UnknownDevice { .. })));
        for name in NAMES.iter().filter(|name| **name != "auto" && !compiled_in().contains(name)) {
            assert!(matches!(open(name), Err(CliError::NotCompiledIn { .. })), "{name}");
        }
    }
}
