//! What was measured of all sides, summed up: medians, spreads, and how codex stands beside the best peer.

use serde::Serialize;

use super::runner::{Role, Side};
use super::statistics::Summary;
use super::table::{Table, grouped, measured};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Rates.
    Higher,
    /// Times.
    Lower,
}

/// One thing that is measured.
#[derive(Clone, Debug)]
pub struct Measure {
    /// What it is.
    pub what: String,
    /// Its unit.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
}

impl Measure {
    /// A measure.
    pub fn new(what: impl Into<String>, unit: &'static str, better: Better) -> Self {
        Self { what: what.into(), unit, better }
    }
}

/// One measure of all sides.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What was measured.
    pub what: String,
    /// Its unit.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// The sides, in the order they took turns.
    pub sides: Vec<Standing>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// One side of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Whose time it is.
    pub role: Role,
    /// The value of each round.
    pub values: Vec<f64>,
    /// Those values, summed up.
    pub summary: Option<Summary>,
    /// Peak resident memory in bytes, summed up.
    pub peak_rss_bytes: Option<Summary>,
    /// Processors that others kept busy meanwhile, summed up.
    pub others: Option<Summary>,
    /// Parameters of the model.
    pub parameters: Option<u64>,
    /// Whether it is the peer that codex is compared with.
    pub is_best_peer: bool,
    /// Only of codex: how many times as fast as the best peer, by the medians.
    pub times_as_fast: Option<f64>,
    /// Only of codex: the same of each round by itself, smallest and largest.
    pub times_as_fast_by_round: Option<(f64, f64)>,
    /// Only of codex: its memory as a share of the best peer's.
    pub memory_share: Option<f64>,
    /// Why nothing, or not everything, was measured.
    pub obstacle: Option<String>,
}

impl Comparison {
    /// Sums up the measure with this index of the samples.
    pub fn new(measure: &Measure, index: usize, sides: &[Side]) -> Self {
        let mut standings: Vec<Standing> = sides.iter().map(|side| standing(side, index)).collect();
        let best = best_peer(&standings, measure.better);
        if let Some(best) = best {
            standings[best].is_best_peer = true;
            let peer = standings[best].clone();
            for codex in standings.iter_mut().filter(|standing| standing.role == Role::Codex) {
                compare(codex, &peer, measure.better);
            }
        }
        let mut notes: Vec<String> = Vec::new();
        for side in sides {
            for note in side.samples.iter().filter_map(|sample| sample.note.as_ref()) {
                let note = format!("{}: {note}", side.name);
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        notes.extend(parameter_mismatch(&standings));
        notes.extend(disturbance(&standings));
        Self { what: measure.what.clone(), unit: measure.unit, better: measure.better, sides: standings, notes }
    }

    /// Whether others used the processors meanwhile.
    pub fn is_disturbed(&self) -> bool {
        self.sides.iter().any(|side| side.others.is_some_and(|others| others.max > TOLERATED))
    }

    /// The table of it.
    pub fn table(&self) -> Table {
        let has_parameters = self.sides.iter().any(|side| side.parameters.is_some());
        let direction = if self.better == Better::Higher { "more is better" } else { "less is better" };
        let rounds = self.sides.iter().map(|side| side.values.len()).max().unwrap_or(0);
        let title = format!("{} ({direction}, median of {rounds})", self.what);
        let mut table = Table::new(title, &["side", self.unit, "min to max", "spread", "codex is", "by round"]);
        let has_memory = self.sides.iter().any(|side| side.peak_rss_bytes.is_some());
        if has_memory {
            table.header.extend(["peak MB", "memory"].map(str::to_owned));
        }
        if has_parameters {
            table.header.push("parameters".to_owned());
        }
        for side in &self.sides {
            let mut row = vec![format!("{}{}", side.name, if side.is_best_peer { " *" } else { "" })];
            if let Some(summary) = side.summary {
                row.push(measured(summary.median));
                row.push(format!("{} to {}", measured(summary.min), measured(summary.max)));
                row.push(format!("{:.1} %", summary.spread_percent()));
            } else {
                row.extend(["-".to_owned(), String::new(), String::new()]);
            }
            row.push(side.times_as_fast.map_or_else(String::new, |times| format!("{} x", ratio(times))));
            row.push(side.times_as_fast_by_round.map_or_else(String::new, |(min, max)| format!("{} to {}", ratio(min), ratio(max))));
            if has_memory {
                row.push(side.peak_rss_bytes.map_or_else(String::new, |peak| measured(peak.median / 1e6)));
                row.push(side.memory_share.map_or_else(String::new, |share| format!("{} x", ratio(share))));
            }
            if has_parameters {
                row.push(side.parameters.map_or_else(String::new, grouped));
            }
            table.rows.push(row);
        }
        if self.sides.iter().any(|side| side.is_best_peer) {
            table.notes.push("* the best peer: what codex is compared with".to_owned());
        }
        table.notes.extend(self.sides.iter().filter_map(|side| side.obstacle.as_ref().map(|why| format!("{}: {why}", side.name))));
        table.notes.extend(self.notes.iter().cloned());
        table
    }
}

/// A ratio with two digits after the point, or with all that mean something when it is large.
pub fn ratio(times: f64) -> String {
    if times < 10.0 { format!("{times:.2}") } else { measured(times) }
}

fn standing(side: &Side, index: usize) -> Standing {
    let values: Vec<f64> = side.samples.iter().filter_map(|sample| sample.values.get(index).copied().flatten()).collect();
    Standing {
        name: side.name.clone(),
        role: side.role,
        summary: Summary::of(values.iter().copied()),
        values,
        peak_rss_bytes: Summary::of(side.samples.iter().filter_map(|sample| sample.peak_rss_bytes.map(|bytes| bytes as f64))),
        others: Summary::of(side.samples.iter().filter_map(|sample| sample.others)),
        parameters: side.samples.iter().find_map(|sample| sample.parameters),
        is_best_peer: false,
        times_as_fast: None,
        times_as_fast_by_round: None,
        memory_share: None,
        obstacle: side.obstacle.clone(),
    }
}

fn best_peer(standings: &[Standing], better: Better) -> Option<usize> {
    let measured = standings.iter().enumerate().filter(|(_, standing)| standing.role == Role::Peer);
    let medians = measured.filter_map(|(idx, standing)| standing.summary.map(|summary| (idx, summary.median)));
    let by = |a: &(usize, f64), b: &(usize, f64)| if better == Better::Higher { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) };
    medians.max_by(by).map(|(idx, _)| idx)
}

fn compare(codex: &mut Standing, peer: &Standing, better: Better) {
    let times = |own: f64, other: f64| if better == Better::Higher { own / other } else { other / own };
    if let (Some(own), Some(other)) = (codex.summary, peer.summary) {
        codex.times_as_fast = Some(times(own.median, other.median));
    }
    let by_round = codex.values.iter().zip(&peer.values).map(|(own, other)| times(*own, *other));
    codex.times_as_fast_by_round = Summary::of(by_round).map(|summary| (summary.min, summary.max));
    if let (Some(own), Some(other)) = (codex.peak_rss_bytes, peer.peak_rss_bytes) {
        codex.memory_share = Some(own.median / other.median);
    }
}

/// What to say when the sides did not measure the same model.
fn parameter_mismatch(standings: &[Standing]) -> Option<String> {
    let counts: Vec<(&str, u64)> = standings.iter().filter_map(|standing| Some((standing.name.as_str(), standing.parameters?))).collect();
    let (_, first) = counts.first()?;
    if counts.iter().all(|(_, count)| count == first) {
        return None;
    }
    let list: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {}", grouped(*count))).collect();
    Some(format!("THE PARAMETER COUNTS DIFFER, so these are not the same model: {}", list.join(", ")))
}

/// Processors that others may keep busy before a reader is warned.
pub const TOLERATED: f64 = 0.1;

/// What to say when others used the processors meanwhile. Programs suffer from it differently, so it does not cancel out of a ratio.
fn disturbance(standings: &[Standing]) -> Option<String> {
    disturbance_of(standings.iter().filter_map(|standing| Some((standing.name.as_str(), standing.others?.max))))
}

/// The same of names and processors that others kept busy.
pub fn disturbance_of<'a>(sides: impl Iterator<Item = (&'a str, f64)>) -> Option<String> {
    let busy: Vec<(&str, f64)> = sides.filter(|(_, max)| *max > TOLERATED).collect();
    let list: Vec<String> = busy.iter().map(|(name, max)| format!("{name} {max:.1}")).collect();
    (!list.is_empty()).then(|| {
        format!(
            "THE MACHINE WAS BUSY: others kept up to so many processors busy beside {}; threads that wait for each other suffer most, and a quiet machine may show another ratio",
            list.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::runner::Sample;
    use super::*;

    fn side(name: &str, role: Role, values: &[f64], parameters: u64, mb: u64) -> Side {
        let sample = |&value: &f64| Sample {
            values: vec![Some(value)],
            peak_rss_bytes: Some(mb * 1_000_000),
            others: Some(0.05),
            parameters: Some(parameters),
            note: None,
        };
        Side { name: name.to_owned(), role, samples: values.iter().map(sample).collect(), obstacle: None }
    }

    fn rates(sides: &[Side]) -> Comparison {
        Comparison::new(&Measure::new("step", "tokens/s", Better::Higher), 0, sides)
    }

    #[test]
    fn codex_is_compared_with_the_better_peer() {
        let sides = [
            side("codex", Role::Codex, &[200.0, 220.0, 180.0], 7, 50),
            side("eager", Role::Peer, &[90.0, 95.0, 80.0], 7, 90),
            side("compile", Role::Peer, &[100.0, 110.0, 80.0], 7, 100),
            side("true", Role::Reference, &[900.0], 7, 1),
        ];
        let comparison = rates(&sides);
        let codex = &comparison.sides[0];
        assert_eq!(comparison.sides.iter().position(|side| side.is_best_peer), Some(2));
        assert_eq!((codex.times_as_fast, codex.memory_share), (Some(2.0), Some(0.5)));
        assert_eq!(codex.times_as_fast_by_round, Some((2.0, 2.25)));
        let text = comparison.table().text();
        assert!(text.contains("compile *") && text.contains("2.00 x") && text.contains("0.50 x") && text.contains("180 to 220"), "{text}");
    }

    #[test]
    fn of_times_the_shorter_is_better() {
        let sides =
            [side("codex", Role::Codex, &[2.0], 7, 50), side("slow", Role::Peer, &[8.0], 7, 90), side("quick", Role::Peer, &[3.0], 7, 100)];
        let comparison = Comparison::new(&Measure::new("start", "s", Better::Lower), 0, &sides);
        assert_eq!(comparison.sides[0].times_as_fast, Some(1.5));
        assert_eq!([0.5, 9.994, 12.34, 1360.5].map(ratio), ["0.50", "9.99", "12.3", "1,361"]);
        assert!(comparison.table().text().contains("quick *"));
    }

    #[test]
    fn another_number_of_parameters_is_shown() {
        let comparison = rates(&[side("codex", Role::Codex, &[2.0], 1_000_000, 5), side("torch", Role::Peer, &[1.0], 1_000_001, 5)]);
        let text = comparison.table().text();
        assert!(text.contains("THE PARAMETER COUNTS DIFFER, so these are not the same model: codex 1,000,000, torch 1,000,001"), "{text}");
        let equal = rates(&[side("codex", Role::Codex, &[2.0], 7, 5), side("torch", Role::Peer, &[1.0], 7, 5)]);
        assert_eq!(equal.notes, [""; 0]);
    }

    #[test]
    fn a_busy_machine_is_told() {
        let mut sides = [side("codex", Role::Codex, &[2.0, 2.0], 7, 5), side("torch", Role::Peer, &[1.0], 7, 5)];
        assert_eq!(rates(&sides).notes, [""; 0]);
        sides[0].samples[1].others = Some(1.26);
        assert!(rates(&sides).is_disturbed());
        let text = rates(&sides).table().text();
        assert!(text.contains("THE MACHINE WAS BUSY: others kept up to so many processors busy beside codex 1.3;"), "{text}");
    }

    #[test]
    fn what_is_absent_or_failed_is_shown() {
        let mut absent = side("torch", Role::Peer, &[], 7, 1);
        absent.obstacle = Some("ABSENT: run `python3 -m pip install torch`".to_owned());
        let comparison = rates(&[side("codex", Role::Codex, &[2.0], 7, 5), absent]);
        assert_eq!(comparison.sides[0].times_as_fast, None);
        let text = comparison.table().text();
        assert!(text.contains("torch: ABSENT: run `python3 -m pip install torch`"), "{text}");
    }
}
