//! Running all rules over a text, and doing with it what the configuration says.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, OnceLock};
use std::thread::JoinHandle;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use codex_core::Digest;
use serde::{Deserialize, Serialize};

use crate::account_rules::{CardRule, IbanRule};
use crate::assignment_rule::AssignmentRule;
use crate::config::{Action, SafetyConfig};
use crate::error::SafetyError;
use crate::override_rule::OverrideRule;
use crate::place::Place;
use crate::rule::{Category, SafetyRule};
use crate::tally::Tally;
use crate::{personal_rules, secret_rules};

/// Something a rule has found: where, and the digest of what, never what itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule's id.
    pub rule: String,
    /// What kind of thing it is.
    pub category: Category,
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Line of the first byte, from 1.
    pub line: usize,
    /// Column of the first byte in characters, from 1.
    pub column: usize,
    /// BLAKE3 of the match, to tell two findings apart or recognise one.
    pub digest: Digest,
}

/// A range that a rule has found, before anything is decided about it.
struct Hit {
    range: Range<usize>,
    /// The rule's index in the scanner.
    rule: usize,
}

/// A text with its findings replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted<'t> {
    /// The text; borrowed when nothing was replaced.
    pub text: Cow<'t, str>,
    /// What [`Scanner::scan`] finds in the original, flagged findings too.
    pub findings: Vec<Finding>,
}

/// What becomes of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'t> {
    /// It stays, redacted where the configuration says so.
    Keep(Cow<'t, str>),
    /// It is left out because of these rules.
    Drop {
        /// Rule ids.
        rules: Vec<String>,
    },
    /// The program stops because of these rules.
    Stop {
        /// Rule ids.
        rules: Vec<String>,
    },
}

/// A rule as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleInfo {
    /// Its id.
    pub id: String,
    /// What kind of thing it finds.
    pub category: Category,
    /// One line for a person.
    pub description: String,
}

/// All rules that are on, ready to run.
pub struct Scanner {
    config: SafetyConfig,
    ready: OnceLock<Ready>,
    /// The built-in rules in the making, until they are needed: compiling the patterns takes a fifth of a second.
    coming: Mutex<Option<JoinHandle<Result<Ready, SafetyError>>>>,
}

/// Compiled rules.
struct Ready {
    rules: Vec<Box<dyn SafetyRule>>,
    keywords: AhoCorasick,
    /// The rule of each keyword.
    owners: Vec<usize>,
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The built-in rules.
pub fn rules() -> Vec<RuleInfo> {
    let info = |rule: &dyn SafetyRule| RuleInfo {
        id: rule.id().to_owned(),
        category: rule.category(),
        description: rule.description().to_owned(),
    };
    built_in().map(|rules| rules.iter().map(|rule| info(rule.as_ref())).collect()).unwrap_or_default()
}

fn built_in() -> Result<Vec<Box<dyn SafetyRule>>, SafetyError> {
    let boxed = |rule| Box::new(rule) as Box<dyn SafetyRule>;
    let mut rules: Vec<_> = secret_rules::rules()?.into_iter().map(boxed).collect();
    rules.push(Box::new(AssignmentRule::new()?));
    rules.extend(personal_rules::rules()?.into_iter().map(boxed));
    rules.push(Box::new(CardRule::new()?));
    rules.push(Box::new(IbanRule::new()?));
    rules.push(Box::new(OverrideRule::new()?));
    Ok(rules)
}

impl Ready {
    fn new(config: &SafetyConfig, rules: Vec<Box<dyn SafetyRule>>) -> Result<Self, SafetyError> {
        let on = |rule: &dyn SafetyRule| action(config, rule.category()) != Action::Off && !config.allow.iter().any(|id| id == rule.id());
        let rules: Vec<_> = rules.into_iter().filter(|rule| on(rule.as_ref())).collect();
        let (mut words, mut owners) = (Vec::new(), Vec::new());
        for (i, rule) in rules.iter().enumerate() {
            words.extend(rule.keywords().iter().copied());
            owners.extend(std::iter::repeat_n(i, rule.keywords().len()));
        }
        let keywords = AhoCorasick::builder().ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).build(&words);
        let keywords = keywords.map_err(|source| SafetyError::Keywords { source: Box::new(source) })?;
        Ok(Self { rules, keywords, owners })
    }
}

impl Scanner {
    /// A scanner with the built-in rules. They are compiled on another thread; the first text waits for them.
    pub fn new(config: &SafetyConfig) -> Result<Self, SafetyError> {
        if let Some((key, message)) = config.problems().into_iter().next() {
            return Err(SafetyError::Config { key, message });
        }
        let of_thread = config.clone();
        let thread = std::thread::Builder::new().name("safety rules".to_owned());
        match thread.spawn(move || Ready::new(&of_thread, built_in()?)) {
            Ok(coming) => Ok(Self { config: config.clone(), ready: OnceLock::new(), coming: Mutex::new(Some(coming)) }),
            // Without another thread it is done here.
            Err(_) => Self::with_rules(config, built_in()?),
        }
    }

    /// A scanner with these rules. Rules that the configuration turns off are left out.
    pub fn with_rules(config: &SafetyConfig, rules: Vec<Box<dyn SafetyRule>>) -> Result<Self, SafetyError> {
        let ready = OnceLock::from(Ready::new(config, rules)?);
        Ok(Self { config: config.clone(), ready, coming: Mutex::new(None) })
    }

    /// The compiled rules.
    #[expect(
        clippy::expect_used,
        reason = "the patterns are constants and a test compiles each; going on without them would let secrets through"
    )]
    fn ready(&self) -> &Ready {
        self.ready.get_or_init(|| {
            let coming = self.coming.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            let coming = coming.map(|coming| coming.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            coming.unwrap_or_else(|| Ready::new(&self.config, built_in()?)).expect("the built-in rules compile")
        })
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &SafetyConfig {
        &self.config
    }

    /// What the rules find, in the order of the text. Where findings of one category overlap, the earliest is reported, of those the longest, of
    /// those the one whose rule is listed first. Findings of two categories may overlap.
    pub fn scan(&self, text: &str) -> Vec<Finding> {
        self.findings(text, &self.hits(text))
    }

    /// Every range that a rule finds, overlapping or not, with its rule: by start, the longest first, in the order of the rules.
    fn hits(&self, text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut ranges = Vec::new();
        for rule in self.rules_for(text) {
            self.ready().rules[rule].find(text, &mut ranges);
            hits.extend(ranges.drain(..).filter(|range| !range.is_empty()).map(|range| Hit { range, rule }));
        }
        hits.sort_by_key(|hit| (hit.range.start, Reverse(hit.range.end), hit.rule));
        hits
    }

    fn findings(&self, text: &str, hits: &[Hit]) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        let mut reported_to: BTreeMap<Category, usize> = BTreeMap::new();
        let mut place = Place::default();
        for Hit { range, rule } in hits {
            let rule = &self.ready().rules[*rule];
            let end = reported_to.entry(rule.category()).or_default();
            if range.start < *end {
                continue;
            }
            *end = range.end;
            place.advance(text, range.start);
            findings.push(Finding {
                rule: rule.id().to_owned(),
                category: rule.category(),
                line: place.line(),
                column: place.column(),
                digest: Digest::of_bytes(&text.as_bytes()[range.clone()]),
                start: range.start,
                end: range.end,
            });
        }
        findings
    }

    /// What the configuration wants done about a hit.
    fn action(&self, hit: &Hit) -> Action {
        action(&self.config, self.ready().rules[hit.rule].category())
    }

    /// The rules worth trying on a text: those without keywords and those of which a keyword occurs.
    fn rules_for(&self, text: &str) -> BTreeSet<usize> {
        let ready = self.ready();
        let mut on: BTreeSet<usize> = (0..ready.rules.len()).filter(|&i| ready.rules[i].keywords().is_empty()).collect();
        for hit in ready.keywords.find_overlapping_iter(text) {
            on.insert(ready.owners[hit.pattern().as_usize()]);
            if on.len() == ready.rules.len() {
                break;
            }
        }
        on
    }

    /// The text with everything that a rule of a redacting category finds replaced by a word for it.
    pub fn redact<'t>(&self, text: &'t str) -> Redacted<'t> {
        let hits = self.hits(text);
        Redacted { text: self.replaced(text, &hits), findings: self.findings(text, &hits) }
    }

    /// Whether a text may be shown before its end is known: whether nothing that is found later can leave all of it out.
    pub(crate) fn shows_early(&self) -> bool {
        let leaves_out = |rule: &dyn SafetyRule| matches!(action(&self.config, rule.category()), Action::Drop | Action::Stop);
        !self.ready().rules.iter().any(|rule| leaves_out(rule.as_ref()))
    }

    /// The beginning of a text, redacted, that stays the same whatever follows; the text ends with white space.
    pub(crate) fn redact_decided<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let with_keyword = self.rules_for(text);
        let mut ranges = Vec::new();
        let mut open = None;
        for (i, rule) in self.ready().rules.iter().enumerate().filter(|(_, rule)| action(&self.config, rule.category()) == Action::Redact) {
            // A keyword that is still to come makes a finding of what is none without it.
            if !with_keyword.contains(&i) {
                rule.find(text, &mut ranges);
            }
            let place = ranges.drain(..).map(|range| range.start).chain(rule.open_from(text)).min();
            open = [open, place].into_iter().flatten().min();
        }
        let mut end = open.unwrap_or(text.len());
        if end == 0 {
            return Cow::Borrowed("");
        }
        let mut hits = self.hits(text);
        hits.retain(|hit| self.action(hit) == Action::Redact);
        // By falling starts, so that one that the end falls back over is followed by those around its start.
        for hit in hits.iter().rev() {
            if hit.range.start < end && end < hit.range.end {
                end = hit.range.start;
            }
        }
        hits.retain(|hit| hit.range.start < end);
        self.replaced(&text[..end], &hits)
    }

    /// Hits that overlap are replaced together, by the word for the first of them: a part of the second would tell what it was.
    fn replaced<'t>(&self, text: &'t str, hits: &[Hit]) -> Cow<'t, str> {
        let mut out = String::new();
        let mut at = 0;
        for hit in hits.iter().filter(|hit| self.action(hit) == Action::Redact) {
            if hit.range.start >= at {
                out.push_str(&text[at..hit.range.start]);
                out.push_str(&placeholder(self.ready().rules[hit.rule].as_ref()));
            }
            at = at.max(hit.range.end);
        }
        if at == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[at..]);
        Cow::Owned(out)
    }

    /// What becomes of a text, counted in `tally`. A text longer than the configuration allows stops with the rule `max-text-bytes`.
    pub fn apply<'t>(&self, text: &'t str, tally: &mut Tally) -> Verdict<'t> {
        tally.texts += 1;
        if text.len() > self.config.max_text_bytes {
            tally.stopped += 1;
            return Verdict::Stop { rules: vec!["max-text-bytes".to_owned()] };
        }
        let hits = self.hits(text);
        for finding in self.findings(text, &hits) {
            *tally.rules.entry(finding.rule).or_default() += 1;
        }
        let rules_with = |wanted: Action| -> Vec<String> {
            let of = hits.iter().filter(|hit| self.action(hit) == wanted);
            of.map(|hit| self.ready().rules[hit.rule].id().to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let stop = rules_with(Action::Stop);
        if !stop.is_empty() {
            tally.stopped += 1;
            return Verdict::Stop { rules: stop };
        }
        let drop = rules_with(Action::Drop);
        if !drop.is_empty() {
            tally.dropped += 1;
            return Verdict::Drop { rules: drop };
        }
        let kept = self.replaced(text, &hits);
        tally.kept += 1;
        tally.redacted += u64::from(matches!(kept, Cow::Owned(_)));
        Verdict::Keep(kept)
    }
}

fn action(config: &SafetyConfig, category: Category) -> Action {
    match category {
        Category::Secret => config.secrets,
        Category::PersonalData => config.personal_data,
        Category::Jailbreak => config.jailbreak,
    }
}

/// The word that stands for what a rule has found; no rule finds anything in it.
fn placeholder(rule: &dyn SafetyRule) -> String {
    match (rule.category(), rule.id()) {
        (Category::Secret, rule) => format!("[SECRET:{rule}]"),
        (Category::PersonalData, "email") => "[EMAIL]".to_owned(),
        (Category::PersonalData, "card") => "[CARD]".to_owned(),
        (Category::PersonalData, "iban") => "[IBAN]".to_owned(),
        (Category::PersonalData, rule) if rule.starts_with("ssn") => "[SSN]".to_owned(),
        (Category::PersonalData, rule) if rule.starts_with("phone") => "[PHONE]".to_owned(),
        (Category::PersonalData, rule) if rule.starts_with("ip") => "[IP]".to_owned(),
        (Category::PersonalData, rule) => format!("[PERSONAL:{rule}]"),
        (Category::Jailbreak, rule) => format!("[WITHHELD:{rule}]"),
    }
}
