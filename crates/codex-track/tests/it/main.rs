//! A run folder as the loop writes it and a reader finds it: resumes, failures, any bytes, and the report.

mod any_bytes;
mod bigram_run;
mod degradation;
mod report;
mod resume;
