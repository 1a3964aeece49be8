//! What a configuration switches off that is on by default: said at the start, kept as an event. Nothing of it goes off in silence.

use codex_config::Resolved;
use codex_safety::Action;
use codex_track::{Level, RunDir};
use serde_json::json;

use crate::failure::CliError;
use crate::run_config::{self, RunConfig};
use crate::terminal::Terminal;

/// The event's kind.
const KIND: &str = "switched_off";

/// Something that is off.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Off {
    key: &'static str,
    /// What is not done.
    what: &'static str,
    /// The layer that says so.
    by: String,
}

/// Every guard and every record that is on by default, and whether this configuration has it off.
fn switches(config: &RunConfig) -> [(&'static str, &'static str, bool); 5] {
    let is_off = |action: Action| action == Action::Off;
    [
        ("safety.secrets", "secrets in texts are not looked for", is_off(config.safety.secrets)),
        ("safety.personal_data", "personal data in texts is not looked for", is_off(config.safety.personal_data)),
        ("safety.jailbreak", "instructions that override others are not looked for", is_off(config.safety.jailbreak)),
        ("track.csv", "no metrics.csv is written", !config.track.csv),
        ("telemetry.every_seconds", "the machine is not measured", config.telemetry.every_seconds <= 0.0),
    ]
}

/// What is off, each with the layer that switched it off.
pub(super) fn find(resolved: &Resolved<RunConfig>) -> Vec<Off> {
    let off = switches(&resolved.value).into_iter().filter(|(_, _, is_off)| *is_off);
    off.map(|(key, what, _)| Off { key, what, by: resolved.source(key).to_string() }).collect()
}

/// Says it.
pub(super) fn announce(found: &[Off], terminal: &Terminal) {
    for Off { key, what, by } in found {
        terminal.warn(&format!("{key} is off by configuration ({by}): {what}"));
    }
}

/// Keeps it with the run. What was on when the run was last worked on is told once more: such a change is easily missed.
pub(super) fn keep(found: &[Off], run: &RunDir, at: codex_core::Timestamp, terminal: &Terminal) -> Result<(), CliError> {
    let before = run_config::of_run(run.path()).ok();
    for Off { key, what, by } in found {
        let was_on = before.as_ref().is_some_and(|config| switches(config).iter().any(|(known, _, is_off)| known == key && !is_off));
        if was_on {
            terminal.warn(&format!("{key} was on in this run so far"));
        }
        let fields = json!({ "key": key, "by": by, "was_on": was_on });
        codex_track::event::append(run, at, Level::Warn, KIND, &format!("{key} is off: {what}"), fields)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_config::Layers;

    fn off(base: &str, overrides: &[&str]) -> Vec<(&'static str, String)> {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let resolved = Layers::<RunConfig>::new(run_config::LIBRARY).base(base).overrides(&overrides).resolve().unwrap();
        find(&resolved).into_iter().map(|off| (off.key, off.by)).collect()
    }

    #[test]
    fn nothing_that_ships_switches_anything_off() {
        for name in run_config::LIBRARY.names() {
            let group: Vec<String> = name.split_once('/').map(|(group, option)| format!("{group}={option}")).into_iter().collect();
            assert_eq!(off("default", &group.iter().map(String::as_str).collect::<Vec<_>>()), [], "{name}");
        }
    }

    #[test]
    fn each_switch_is_told_with_what_threw_it() {
        let all =
            ["safety.secrets=off", "safety.personal_data=off", "safety.jailbreak=off", "track.csv=false", "telemetry.every_seconds=0"];
        let found = off("default", &all);
        assert_eq!(found.len(), switches(&RunConfig::default()).len());
        for ((key, by), argument) in found.iter().zip(all) {
            assert!(argument.starts_with(key), "{argument}");
            assert_eq!(*by, format!("argument `{argument}`"));
        }
    }
}
