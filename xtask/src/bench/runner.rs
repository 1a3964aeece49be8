//! Interleaving: codex and its peers take turns for a number of rounds, so that what disturbs the machine disturbs all of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::comparison::TOLERATED;
use super::machine::busy_seconds;
use super::process::Finished;

/// Whose time is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// codex: what is compared.
    Codex,
    /// What it is compared with; the best of several counts.
    Peer,
    /// Shown beside them and not compared.
    Reference,
}

/// One measurement of one side.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// One value for each measure of the comparison.
    pub values: Vec<Option<f64>>,
    /// Peak resident memory.
    pub peak_rss_bytes: Option<u64>,
    /// Processors that others kept busy meanwhile.
    pub others: Option<f64>,
    /// Parameters of the model that was measured.
    pub parameters: Option<u64>,
    /// What a reader should know about it.
    pub note: Option<String>,
}

impl Sample {
    /// Values of a child, with its memory and with what ran beside it.
    pub fn of(values: Vec<Option<f64>>, finished: &Finished) -> Self {
        Self { values, peak_rss_bytes: Some(finished.peak_rss_bytes), others: finished.others, ..Self::default() }
    }
}

/// One side, and how it is measured once; the argument is the round, from 1.
pub struct Job<'a> {
    /// Its name in tables.
    pub name: String,
    /// Whose time it is.
    pub role: Role,
    /// How it is measured, or why it cannot be.
    pub run: Result<Box<dyn FnMut(usize) -> Result<Sample> + 'a>, String>,
}

impl<'a> Job<'a> {
    /// A side that can be measured.
    pub fn new(name: impl Into<String>, role: Role, run: impl FnMut(usize) -> Result<Sample> + 'a) -> Self {
        Self { name: name.into(), role, run: Ok(Box::new(run)) }
    }

    /// A side that is not there, and what would help.
    pub fn absent(name: impl Into<String>, role: Role, why: impl Into<String>) -> Self {
        Self { name: name.into(), role, run: Err(why.into()) }
    }
}

/// What was measured of one side.
#[derive(Clone, Debug)]
pub struct Side {
    /// Its name in tables.
    pub name: String,
    /// Whose time it is.
    pub role: Role,
    /// One sample for each round.
    pub samples: Vec<Sample>,
    /// Why there are none, or no more.
    pub obstacle: Option<String>,
}

/// Runs the jobs in turns. A peer that fails is out from then on, with its error; codex failing ends the benchmark.
pub fn interleave(what: &str, rounds: usize, mut jobs: Vec<Job<'_>>, progress: &mut Progress) -> Result<Vec<Side>> {
    let new = |job: &Job<'_>| Side {
        name: job.name.clone(),
        role: job.role,
        samples: Vec::new(),
        obstacle: job.run.as_ref().err().map(|why| format!("ABSENT: {why}")),
    };
    let mut sides: Vec<Side> = jobs.iter().map(new).collect();
    for round in 1..=rounds {
        for (job, side) in jobs.iter_mut().zip(&mut sides) {
            let Ok(run) = &mut job.run else {
                progress.pass();
                continue;
            };
            if side.obstacle.is_some() {
                progress.pass();
                continue;
            }
            progress.begin(&format!("{what}: {}, round {round} of {rounds}", job.name));
            match run(round) {
                Ok(sample) => side.samples.push(sample),
                Err(error) if job.role == Role::Codex => return Err(error).with_context(|| format!("{what}: {}", job.name)),
                Err(error) => {
                    progress.tell(&format!("{} FAILED: {error:#}", job.name));
                    side.obstacle = Some(format!("FAILED: {}", shortened(&format!("{error:#}"))));
                }
            }
            progress.end();
        }
    }
    Ok(sides)
}

/// The first line of an error, and the last line of the stderr that it shows.
fn shortened(error: &str) -> String {
    let first = error.lines().next().unwrap_or_default();
    let last = error.lines().filter_map(|line| line.strip_prefix("  | ")).rfind(|line| !line.trim().is_empty());
    last.map_or_else(|| first.to_owned(), |last| format!("{first}: {}", last.trim()))
}

/// Says on stderr what is running, how far it is and how long it may take.
pub struct Progress {
    total: usize,
    done: usize,
    passed: usize,
    start: Instant,
    patience: Duration,
    say: Box<dyn FnMut(&str)>,
}

impl Progress {
    /// Counts up to `total` measurements; `say` shows a line.
    pub fn new(total: usize, say: impl FnMut(&str) + 'static) -> Self {
        Self { total, done: 0, passed: 0, start: Instant::now(), patience: Duration::ZERO, say: Box::new(say) }
    }

    /// Waits so long before each measurement for the machine to become quiet.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn wait_for_quiet(&mut self) {
        let start = Instant::now();
        let mut is_told = false;
        while start.elapsed() < self.patience {
            let before = busy_seconds();
            sleep(Duration::from_secs(1));
            match before.zip(busy_seconds()) {
                Some((before, after)) if after - before > TOLERATED => {}
                _ => return,
            }
            if !is_told {
                (self.say)(&format!("waiting up to {} for others to leave the processors", duration(self.patience.as_secs_f64())));
                is_told = true;
            }
        }
        if is_told {
            (self.say)("others are still busy: measuring all the same");
        }
    }

    /// Says what begins.
    pub fn begin(&mut self, what: &str) {
        self.wait_for_quiet();
        let measured = self.done - self.passed;
        let eta = match measured {
            0 => String::new(),
            n => {
                let left = self.start.elapsed().as_secs_f64() / n as f64 * (self.total.saturating_sub(self.done)) as f64;
                format!("  ETA {}", duration(left))
            }
        };
        let line = format!("[{}/{}] {what}{eta}", self.done + 1, self.total);
        (self.say)(&line);
    }

    /// Counts a measurement that was made.
    pub fn end(&mut self) {
        self.done += 1;
    }

    /// Counts a measurement that cannot be made.
    pub fn pass(&mut self) {
        self.done += 1;
        self.passed += 1;
    }

    /// Says something else.
    pub fn tell(&mut self, line: &str) {
        (self.say)(line);
    }
}

/// Seconds as a person says them.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    fn sample(value: f64) -> Sample {
        Sample { values: vec![Some(value)], ..Sample::default() }
    }

    #[test]
    fn sides_take_turns_round_by_round() {
        let order = RefCell::new(Vec::new());
        let job = |name: &'static str, role| {
            let order = &order;
            Job::new(name, role, move |round| {
                order.borrow_mut().push(format!("{name}{round}"));
                Ok(sample(round as f64))
            })
        };
        let jobs = vec![job("codex", Role::Codex), job("eager", Role::Peer), job("compile", Role::Peer)];
        let sides = interleave("train", 2, jobs, &mut Progress::new(6, |_| {})).unwrap();
        assert_eq!(*order.borrow(), ["codex1", "eager1", "compile1", "codex2", "eager2", "compile2"]);
        assert_eq!(sides[2].samples.iter().map(|sample| sample.values[0]).collect::<Vec<_>>(), [Some(1.0), Some(2.0)]);
    }

    #[test]
    fn a_peer_that_fails_is_out_and_codex_failing_ends_it() {
        let runs = RefCell::new(0);
        let failing = |role| {
            Job::new("x", role, |_| {
                *runs.borrow_mut() += 1;
                anyhow::bail!("`python3` ended with exit status: 1\n  | Traceback\n  | no compiler\n  | \n  (all of it: `x`)")
            })
        };
        let jobs = vec![Job::new("codex", Role::Codex, |_| Ok(sample(1.0))), failing(Role::Peer)];
        let sides = interleave("train", 3, jobs, &mut Progress::new(6, |_| {})).unwrap();
        assert_eq!(*runs.borrow(), 1);
        assert_eq!((sides[0].samples.len(), sides[1].samples.len()), (3, 0));
        assert_eq!(sides[1].obstacle.as_deref(), Some("FAILED: `python3` ended with exit status: 1: no compiler"));
        let error = interleave("train", 1, vec![failing(Role::Codex)], &mut Progress::new(1, |_| {})).unwrap_err();
        assert!(format!("{error:#}").starts_with("train: x: `python3` ended with exit status: 1\n  | Traceback\n"), "{error:#}");
    }

    #[test]
    fn what_is_absent_stays_in_the_list_with_what_would_help() {
        let jobs = vec![Job::absent("torch", Role::Peer, "torch is not installed: run `python3 -m pip install torch`")];
        let sides = interleave("train", 2, jobs, &mut Progress::new(2, |_| {})).unwrap();
        assert!(sides[0].samples.is_empty());
        assert_eq!(sides[0].obstacle.as_deref(), Some("ABSENT: torch is not installed: run `python3 -m pip install torch`"));
    }

    #[test]
    fn progress_counts_and_foretells_after_the_first() {
        let lines = Rc::new(RefCell::new(Vec::new()));
        let kept = Rc::clone(&lines);
        let mut progress = Progress::new(3, move |line: &str| kept.borrow_mut().push(line.to_owned()));
        progress.begin("a");
        progress.end();
        progress.pass();
        progress.begin("b");
        let lines = lines.borrow();
        assert_eq!(lines[0], "[1/3] a");
        assert!(lines[1].starts_with("[3/3] b  ETA "), "{}", lines[1]);
        assert_eq!([duration(59.4), duration(61.0), duration(7_322.0)], ["59 s", "1 min 01 s", "2 h 02 min"]);
    }
}
