//! `runs push`: a run to an MLflow server, in a build that can.

use std::path::Path;

use crate::failure::CliError;
use crate::terminal::Terminal;

#[cfg(not(feature = "mlflow-rest"))]
pub(super) fn run(_: Option<&Path>, _: &str, _: &str, _: &Terminal) -> Result<(), CliError> {
    Err(CliError::usage(
        "this build opens no connections",
        "build it with `--features mlflow-rest`, or set `track.mlflow=true` and open the file store in the run folder",
    ))
}

#[cfg(feature = "mlflow-rest")]
pub(super) fn run(run: Option<&Path>, to: &str, experiment: &str, terminal: &Terminal) -> Result<(), CliError> {
    use codex_track::RunDir;
    use codex_track::mlflow_rest::{MlflowServer, push};

    let run = RunDir::open(&super::runs::run_or_newest(run)?)?;
    let pushed = push(&run, &MlflowServer::new(to, authorization())?, experiment)?;
    terminal.result(&pushed, || {
        format!(
            "{} is run {} of experiment {}: {} values sent, {} were there, {} files",
            run.path().display(),
            pushed.run_id,
            pushed.experiment_id,
            pushed.values,
            pushed.values_before,
            pushed.files
        )
    })
}

/// The header that MLflow's own variables ask for.
#[cfg(feature = "mlflow-rest")]
fn authorization() -> Option<String> {
    use base64::Engine as _;

    let variables: std::collections::BTreeMap<String, String> = crate::environment::variables().into_iter().collect();
    let of = |name: &str| variables.get(&format!("MLFLOW_TRACKING_{name}")).filter(|value| !value.is_empty());
    if let Some(token) = of("TOKEN") {
        return Some(format!("Bearer {token}"));
    }
    let (user, word) = (of("USERNAME")?, of("PASSWORD")?);
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{word}"))))
}
