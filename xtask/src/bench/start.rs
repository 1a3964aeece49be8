//! `bench start`: how long `--help` takes, and how long `train` takes until its first step.

use std::process::Command;

use anyhow::Result;

use super::comparison::{Better, Comparison, Measure};
use super::options::Start;
use super::process;
use super::program::Tokenizer;
use super::report::Outcome;
use super::run_files::Steps;
use super::runner::{Job, Role, Sample, interleave};
use super::session::Session;
use super::shape::Shape;
use super::train::PeerLine;

/// Measures, and sums up.
pub fn run(session: &Session, options: &Start) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let launches = options.launches as usize;
    let mut progress = session.progress(3 * launches + 2 * session.rounds());
    let what = "start to end of a program that does nothing";
    let sides = interleave(what, launches, launch_jobs(session), &mut progress)?;
    outcome.add(Comparison::new(&Measure::new(what, "ms", Better::Lower), 0, &sides));

    let tokenizer = session.tokenizer(Shape::TINY.vocab)?;
    let shape = Shape { vocab: tokenizer.vocab_size, ..Shape::TINY };
    // Caches are filled before anything is counted.
    first_step_of_codex(session, &shape, &tokenizer)?;
    let what = format!("start to the end of the first training step, {}", shape.line());
    let sides = interleave(&what, session.rounds(), first_step_jobs(session, shape, &tokenizer), &mut progress)?;
    outcome.add(Comparison::new(&Measure::new(what, "s", Better::Lower), 0, &sides));
    outcome.notes.push(
        "the program that does nothing: `codex-cli --help`, `python3 -c 'import torch'`, and `true`, which shows what starting and waiting cost by themselves"
            .to_owned(),
    );
    outcome
        .notes
        .push("codex's first step comes after its evaluation of one window before training; the tokens are in its cache".to_owned());
    Ok(outcome)
}

fn launch_jobs(session: &Session) -> Vec<Job<'_>> {
    let launch = move |mut command: Command, name: &str| -> Result<Sample> {
        let finished = process::run(&mut command, &session.log(name))?;
        Ok(Sample::of(vec![Some(1e3 * finished.seconds)], &finished))
    };
    let help = move |_| {
        let mut command = session.program.command();
        command.arg("--help");
        launch(command, "codex-help")
    };
    let import = format!("python3 -c 'import torch' ({})", session.python.name("torch"));
    let import = match session.python.missing(&["torch"]) {
        Some(why) => Job::absent(import, Role::Peer, why),
        None => Job::new(import, Role::Peer, move |_| {
            let mut command = session.python.command();
            command.args(["-c", "import torch"]);
            launch(command, "import-torch")
        }),
    };
    vec![
        Job::new("codex --help", Role::Codex, help),
        import,
        Job::new("true", Role::Reference, move |_| launch(Command::new("true"), "true")),
    ]
}

fn first_step_jobs<'a>(session: &'a Session, shape: Shape, tokenizer: &'a Tokenizer) -> Vec<Job<'a>> {
    let codex = Job::new("codex train", Role::Codex, move |_| first_step_of_codex(session, &shape, tokenizer));
    let name = format!("{} eager", session.python.name("torch"));
    let torch = match session.python.missing(&["torch", "numpy"]) {
        Some(why) => Job::absent(name, Role::Peer, why),
        None => Job::new(name, Role::Peer, move |_| first_step_of_torch(session, &shape)),
    };
    vec![codex, torch]
}

fn first_step_of_codex(session: &Session, shape: &Shape, tokenizer: &Tokenizer) -> Result<Sample> {
    let run = session.program.train(&session.settings(shape, tokenizer, 1), &session.log("codex-first-step"))?;
    let steps = Steps::read(&run.folder)?;
    let done = steps.by_step.values().map(|(_, at)| *at).fold(f64::INFINITY, f64::min);
    let finished = run.remove()?;
    Ok(Sample::of(vec![Some(done - finished.started_unix_s)], &finished))
}

fn first_step_of_torch(session: &Session, shape: &Shape) -> Result<Sample> {
    let mut arguments = shape.peer_arguments();
    arguments.extend(session.peer_threads());
    arguments.extend(["--steps", "1", "--warmup", "0"].map(str::to_owned));
    let (finished, line) = session.python.run::<PeerLine>("torch_train.py", &arguments, &session.log("torch-first-step"))?;
    Ok(Sample::of(vec![Some(line.first_step_unix_s - finished.started_unix_s)], &finished))
}
