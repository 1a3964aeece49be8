//! `chat`: a conversation by the model's own template, with the safety rules on both sides.

use std::io::{BufRead as _, IsTerminal as _, Read as _, StdinLock, Write as _};

use codex_core::{Clock, Digest, SystemClock, files};
use codex_data::TrainingData;
use codex_model::{CachedSession, SamplingConfig, generate};
use codex_safety::{Scanner, Tally, Verdict};
use codex_tokenize::chat::{Chat as Conversation, ChatTemplate, ChatValue, builtin_names};
use codex_track::RunDir;
use serde_json::{Value, json};

use crate::arguments::Chat;
use crate::commands::draft::{Draft, Stream};
use crate::commands::generate::{allowed, sampling};
use crate::device;
use crate::failure::CliError;
use crate::run_config::{self, RunConfig};
use crate::stored_model::{self, StoredModel};
use crate::terminal::Terminal;

/// The longest message that is read, in bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

pub(super) fn run(arguments: &Chat, terminal: &Terminal) -> Result<(), CliError> {
    sampling(&arguments.sampling, &SamplingConfig::default())?;
    let stored = stored_model::load(&arguments.model, terminal)?;
    let config = match &stored.run {
        Some(run) => run_config::of_run(run)?,
        None => RunConfig::default(),
    };
    let template = template(arguments.template.as_deref(), &stored, &config, terminal)?;
    let mut talk = Talk {
        sampling: sampling(&arguments.sampling, &config.sampling)?,
        scanner: Scanner::new(&config.safety)?,
        stored: &stored,
        session: CachedSession::with_cache(&stored.model, arguments.kv_cache.into()),
        terminal,
        template,
        arguments,
        messages: Vec::new(),
        turns: Vec::new(),
        redacted: 0,
    };
    if let Some(system) = &arguments.system {
        talk.add("system", system)?;
    }
    if arguments.message.is_empty() {
        talk.with_standard_input()?;
    } else {
        for message in &arguments.message {
            talk.answer(message)?;
        }
    }
    let value = json!({
        "checkpoint": stored.checkpoint, "step": stored.step, "weights": arguments.model.weights, "kv_cache": arguments.kv_cache,
        "sampling": talk.sampling, "redacted_messages": talk.redacted, "turns": talk.turns,
    });
    // Answers to standard input, and streamed ones, were shown as they came.
    if (arguments.message.is_empty() || arguments.stream) && !terminal.is_json() {
        return Ok(());
    }
    terminal.result(&value, || {
        let answers = talk.turns.iter().filter_map(|turn| turn["answer"].as_str());
        answers.collect::<Vec<_>>().join("\n")
    })
}

/// The template that was asked for, or the model folder's own, or the one that the run was trained with.
pub(super) fn template(
    asked: Option<&str>,
    stored: &StoredModel,
    config: &RunConfig,
    terminal: &Terminal,
) -> Result<ChatTemplate, CliError> {
    let tokenizer = stored.tokenizer.as_ref();
    if let Some(asked) = asked {
        return Ok(ChatTemplate::open(asked)?.for_tokenizer(tokenizer));
    }
    match (ChatTemplate::load(&stored.checkpoint), trained_with(stored)) {
        (Ok(template), _) => Ok(template),
        (Err(_), Some(digest)) => {
            let template = ChatTemplate::open(&config.data.chat_template)?;
            if template.digest() != digest {
                terminal
                    .warn(&format!("`{}` is another chat template than the one that the run was trained with", config.data.chat_template));
            }
            Ok(template.for_tokenizer(tokenizer))
        }
        (Err(error), None) => {
            let names = builtin_names().join(", ");
            let what = format!("the model brings no chat template: {}", codex_core::failure::chain(&error));
            Err(CliError::usage(what, &format!("give one that it was trained with: `--template FILE`, or one of {names}")))
        }
    }
}

/// The digest of the template of the run's chats, if it was trained on some.
fn trained_with(stored: &StoredModel) -> Option<Digest> {
    let run = RunDir::open(stored.run.as_deref()?).ok()?;
    let record: Value = run.read_json("data.manifest.json").ok()?;
    TrainingData::recorded(&record)
        .into_iter()
        .find_map(|manifest| manifest.recipe.params.conversations)
        .map(|of_chats| of_chats.chat_template)
}

/// A conversation under way.
struct Talk<'a> {
    arguments: &'a Chat,
    stored: &'a StoredModel,
    /// What the model has read, and need not read again.
    session: CachedSession<'a>,
    terminal: &'a Terminal,
    template: ChatTemplate,
    sampling: SamplingConfig,
    scanner: Scanner,
    messages: Vec<ChatValue>,
    turns: Vec<Value>,
    /// Messages that the safety rules changed.
    redacted: u64,
}

/// What someone said, as the safety rules leave it.
struct Said {
    text: String,
    /// What they found in it.
    tally: Tally,
}

impl Talk<'_> {
    fn with_standard_input(&mut self) -> Result<(), CliError> {
        let input = std::io::stdin();
        let is_person = input.is_terminal();
        if is_person {
            self.terminal.say("each line is a message; an empty line or Ctrl-D ends the conversation");
        }
        let mut line = String::new();
        loop {
            if is_person {
                Terminal::ask();
            }
            line.clear();
            let read = take_line(&mut input.lock(), &mut line)?;
            let message = line.trim_end_matches(['\n', '\r']);
            if read == 0 || message.is_empty() {
                return Ok(());
            }
            let answer = self.answer(message)?;
            if !self.streams() {
                self.terminal.reply(&answer)?;
            }
        }
    }

    /// Whether answers are shown while they are made.
    fn streams(&self) -> bool {
        !self.terminal.is_json() && (self.arguments.stream || self.arguments.message.is_empty() && Terminal::is_watched())
    }

    /// Adds what someone said, as the safety rules leave it.
    fn add(&mut self, role: &str, text: &str) -> Result<Said, CliError> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(CliError::usage(format!("a message of {} bytes is longer than 1 MiB", text.len()), "say less at once"));
        }
        let tokenizer = self.stored.tokenizer.as_ref();
        // Said by a user it would end the user's own part of the conversation.
        if let Some(token) = tokenizer.special_tokens().into_iter().find(|token| text.contains(token.as_str())) {
            return Err(CliError::usage(
                format!("the message holds `{token}`, which means something to the model"),
                "write it another way",
            ));
        }
        self.add_checked(role, &format!("the {role}'s message"), text)
    }

    /// Redacts a message, tells what was found in it and writes it down.
    fn add_checked(&mut self, role: &str, place: &str, text: &str) -> Result<Said, CliError> {
        let mut tally = Tally::default();
        let safe = allowed(self.scanner.apply(text, &mut tally), place)?;
        if safe != text {
            self.redacted += 1;
            let rules: Vec<&str> = tally.rules.keys().map(String::as_str).collect();
            // An answer is shown anyway.
            let what = if role == "assistant" { String::new() } else { format!(": {safe}") };
            self.terminal.warn(&format!("{place} was redacted ({}){what}", rules.join(", ")));
        }
        self.messages.push(ChatValue::message(role, &safe));
        self.record(role, &safe, &tally)?;
        Ok(Said { text: safe, tally })
    }

    fn record(&self, role: &str, text: &str, tally: &Tally) -> Result<(), CliError> {
        let Some(path) = &self.arguments.transcript else { return Ok(()) };
        let mut line = json!({ "role": role, "content": text });
        if !tally.rules.is_empty() {
            line["findings"] = json!(tally.rules);
        }
        let mut file = files::open_append(path)?;
        let written = file.write_all(format!("{line}\n").as_bytes());
        Ok(written.map_err(|source| codex_core::FileError::new("write", path, source))?)
    }

    /// What the model answers to a message.
    fn answer(&mut self, message: &str) -> Result<String, CliError> {
        let message = self.add("user", message)?;
        let ids = self.prompt()?;
        let tokenizer = self.stored.tokenizer.as_ref();
        let clock = SystemClock::new();
        let mut stream = self.streams().then(|| Stream::of_answer(&self.scanner));
        let (sampling, session) = (&self.sampling, &mut self.session);
        let mut draft = Draft::of_turn(tokenizer, &sampling.stop);
        let mut more = |id| {
            let goes_on = draft.push(id);
            stream.as_mut().is_none_or(|stream| stream.follow(&draft)) && goes_on
        };
        let generated = device::in_pool(|| generate(session, &ids, tokenizer.end_of_text(), sampling, &mut more))?;
        let finished = draft.finish(generated.stopped)?;
        let seconds = clock.elapsed_seconds();
        let reused = self.session.n_reused();
        let text = finished.text.trim();
        if let Some(stream) = stream {
            // A text that is left out is told below; nothing of it was shown.
            let verdict = self.scanner.apply(text, &mut Tally::default());
            stream.finish(if let Verdict::Keep(safe) = &verdict { Some(safe.as_ref()) } else { None })?;
        }
        let answer = self.add_checked("assistant", "the answer", text)?;
        self.turns.push(json!({
            "message": message.text, "answer": answer.text, "prompt_tokens": ids.len(), "prompt_tokens_reused": reused,
            "tokens": generated.ids.len(), "stopped": finished.stopped, "safety": { "message": message.tally, "answer": answer.tally },
            "seconds": seconds,
        }));
        Ok(answer.text)
    }

    /// The conversation so far as token ids; one that is longer than the model reads is an error that says by how much.
    fn prompt(&self) -> Result<Vec<u32>, CliError> {
        let chat = Conversation { messages: &self.messages, add_generation_prompt: true, ..Conversation::default() };
        let text = self.template.render_text(&chat)?;
        let tokenizer = self.stored.tokenizer.as_ref();
        let special = tokenizer.special_tokens();
        let special: Vec<&str> = special.iter().map(String::as_str).collect();
        let ids = tokenizer.encode_with_special(&text, &special)?;
        let most = self.stored.model.config().context_length;
        if ids.len() > most {
            let (n, too_many) = (ids.len(), ids.len() - most);
            let what = format!("the conversation has {n} tokens and the model's context is {most}: {too_many} too many");
            return Err(CliError::usage(what, "begin a new one, or take a model with a longer context (`model.context_length`)"));
        }
        Ok(ids)
    }
}

/// Reads a line of bounded length.
fn take_line(input: &mut StdinLock<'_>, line: &mut String) -> Result<usize, CliError> {
    let read = input.take(MAX_MESSAGE_BYTES as u64 + 1).read_line(line);
    read.map_err(|error| CliError::usage(format!("standard input is not UTF-8 text: {error}"), "give messages by `--message`"))
}
