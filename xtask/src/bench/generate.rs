//! `bench generate`: one stream of greedy generation, beside transformers with a KV cache.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::comparison::{Better, Comparison, Measure};
use super::options::Generate;
use super::process;
use super::report::Outcome;
use super::runner::{Job, Role, Sample, interleave};
use super::session::Session;
use super::stored_model::StoredModel;

const PROMPT: &str = "It was";

/// What `codex-cli generate --json` prints, as far as it is read.
#[derive(Deserialize)]
struct CodexAnswer {
    tokens_per_second: f64,
    stopped: String,
    ids: Option<Vec<u64>>,
}

/// What `transformers_generate.py` prints.
#[derive(Deserialize)]
struct PeerLine {
    parameters: u64,
    tokens_per_s_median: f64,
    tokens: u64,
}

/// Measures, and sums up.
pub fn run(session: &Session, options: &Generate) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut progress = session.progress(options.shape.len() * 4 * session.rounds());
    for &size in &options.shape {
        let model = StoredModel::of(session, size)?;
        outcome.notes.extend(model.note(size));
        let what = format!("generation of {} tokens, one stream, f32, {}", options.tokens, model.shape.line());
        let codex = Job::new("codex", Role::Codex, |_| measure_codex(session, &model, options.tokens, &[]));
        let coarse = ["--weights", "int8"];
        let coarse = Job::new("codex, 8-bit weights", Role::Reference, |_| measure_codex(session, &model, options.tokens, &coarse));
        let eight = ["--samples", "8"];
        let eight = Job::new("codex, 8 texts at once", Role::Reference, |_| measure_codex(session, &model, options.tokens, &eight));
        let name = format!("{}, {}", session.python.name("transformers"), session.python.name("torch"));
        let peer = match session.python.missing(&["torch", "transformers"]) {
            Some(why) => Job::absent(name, Role::Peer, why),
            None => Job::new(name, Role::Peer, |_| measure_peer(session, &model, options.tokens)),
        };
        let sides = interleave(&what, session.rounds(), vec![codex, peer, coarse, eight], &mut progress)?;
        outcome.add(Comparison::new(&Measure::new(what, "tokens/s", Better::Higher), 0, &sides));
        let what = format!("whole program, start to end, {}", model.shape.line());
        outcome.add(Comparison::new(&Measure::new(what, "s", Better::Lower), 1, &sides));
    }
    outcome.notes.push(
        "the best peer is compared with f32 and one text; the tokens of 8 texts are counted together. tokens/s: after the model is loaded, the prompt counted in; the peer generates once before it is timed, codex does not. The whole program of the peer is one \
         generation too: import, a random model of the shape, the untimed and the timed one"
            .to_owned(),
    );
    Ok(outcome)
}

fn measure_codex(session: &Session, model: &StoredModel, tokens: u64, more: &[&str]) -> Result<Sample> {
    let log = session.log("codex-generate");
    let mut command = session.program.command();
    command.args(["generate", "--json", "--quiet", "--prompt", PROMPT, "--temperature", "0", "--seed", "0"]);
    command.args(["--max-new-tokens", &tokens.to_string(), "--threads", &session.shared.threads.to_string()]).args(more).arg(&model.run);
    let finished = process::run(&mut command, &log)?;
    let answer: CodexAnswer = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("cannot read what `codex-cli generate --json` wrote to `{}`", log.with_extension("out").display()))?;
    let n = answer.ids.as_ref().map_or(0, Vec::len) as u64;
    let is_whole = answer.stopped == "length" && (answer.ids.is_none() || n == tokens);
    let note = (!is_whole).then(|| format!("it stopped after {n} of {tokens} tokens ({})", answer.stopped));
    let values = vec![Some(answer.tokens_per_second), Some(finished.seconds)];
    Ok(Sample { parameters: Some(model.parameters), note, ..Sample::of(values, &finished) })
}

fn measure_peer(session: &Session, model: &StoredModel, tokens: u64) -> Result<Sample> {
    let shape = &model.shape;
    let mut arguments = shape.peer_arguments();
    arguments.extend(session.peer_threads());
    arguments.extend(["--d-feed-forward".to_owned(), shape.d_feed_forward().to_string(), "--tokens".to_owned(), tokens.to_string()]);
    if shape.is_tied {
        arguments.push("--tied".to_owned());
    }
    let (finished, line) = session.python.run::<PeerLine>("transformers_generate.py", &arguments, &session.log("transformers"))?;
    let note = (line.tokens != tokens).then(|| format!("it stopped after {} of {tokens} tokens", line.tokens));
    let values = vec![Some(line.tokens_per_s_median), Some(finished.seconds)];
    Ok(Sample { parameters: Some(line.parameters), note, ..Sample::of(values, &finished) })
}
