//! The device: the only place where a backend is named and a `Device` made.

use burn::tensor::Device;
use codex_kernels::{Awake, Isa};

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

/// The precision that training is fastest in on a device without losing more than rounding, and why.
pub(crate) fn best_precision(device_name: &str) -> (&'static str, &'static str) {
    match Isa::detect() {
        Isa::Avx512Bf16 if is_fused(device_name) => ("bf16", "this processor has instructions for it"),
        _ if is_fused(device_name) => ("f32", "this processor has no instructions for bf16"),
        _ => ("f32", "this device is computed on by burn's own operations"),
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

/// Runs work that consists of many short parallel parts on a thread of the pool, whose other threads stay awake meanwhile: from outside, each part
/// would wake one and be woken by it.
pub(crate) fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| {
        let _awake = Awake::keep();
        work()
    })
}

/// Whether a device runs this project's kernels, and not burn's own operations.
pub(crate) fn is_fused(device_name: &str) -> bool {
    device_name == "flex"
}

/// The instructions that the kernels of a device use from now on; none on a device without kernels.
pub(crate) fn instruction_set_of(device_name: &str) -> &'static str {
    if is_fused(device_name) { Isa::detect().name() } else { "" }
}

/// Takes the instruction set of this name, which has been checked with the configuration.
pub(crate) fn choose_instruction_set(name: &str) {
    if let Ok(isa) = instruction_set(name) {
        isa.choose();
    }
}

/// The instruction set of this name, or what is wrong with it.
pub(crate) fn instruction_set(name: &str) -> Result<Isa, String> {
    if name == "auto" {
        return Ok(Isa::best());
    }
    let all = || Isa::ALL.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
    let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| format!("expected auto, {}, found `{name}`", all()))?;
    if isa.is_available() { Ok(isa) } else { Err(format!("this processor has no {name}; its best is {}", Isa::best().name())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_set_is_there_absent_or_unknown() {
        assert_eq!(instruction_set("auto"), Ok(Isa::best()));
        assert_eq!(instruction_set("portable"), Ok(Isa::Portable));
        assert!(instruction_set("mmx").unwrap_err().contains("auto, portable, avx2"));
        for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
            assert!(instruction_set(isa.name()).unwrap_err().contains("this processor has no"));
        }
    }

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
