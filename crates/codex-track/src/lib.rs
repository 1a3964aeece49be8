//! The run directory: events, metrics, system samples, environment and the report.
