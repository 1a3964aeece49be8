//! A run folder as the loop writes it and a reader finds it: resumes, failures, any bytes, and the report.

// `cfg(test)` tells clippy that the functions beside the tests are tests too.
#[cfg(test)]
mod any_bytes;
mod bigram_run;
#[cfg(test)]
mod degradation;
#[cfg(test)]
mod examples;
#[cfg(test)]
#[cfg(all(target_os = "linux", feature = "nvml"))]
mod nvml;
#[cfg(test)]
mod report;
#[cfg(test)]
mod report_bounds;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod view_readers;
#[cfg(test)]
mod views;
