//! SIGINT and SIGTERM: the first asks the loop to save and stop, the second ends the process at once. SIGUSR1 asks it to save and go on, SIGUSR2 to
//! save and stop with the exit code that asks a scheduler to start the run again.

use codex_train::StopSignal;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::failure::CliError;

/// The signal of a request to be started again.
pub(crate) const REQUEUE: i32 = SIGUSR2;

/// The exit code of a run that is to be started again: `EX_TEMPFAIL` of `sysexits.h`.
pub(crate) const REQUEUED: u8 = 75;

/// Starts listening; the returned signal is set by the first request.
pub(crate) fn listen() -> Result<StopSignal, CliError> {
    let stop = StopSignal::new();
    let heard = stop.clone();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGUSR2]).map_err(|source| CliError::Signals { source })?;
    std::thread::spawn(move || {
        for signal in &mut signals {
            match signal {
                SIGUSR1 => heard.request_save(),
                // A scheduler may ask more than once; the save goes on.
                REQUEUE if heard.requested().is_some() => {}
                _ if heard.requested().is_some_and(|before| before != REQUEUE) => {
                    // Whatever is being written is a draft without its final name: nothing saved is lost.
                    signal_hook::low_level::exit(128 + signal);
                }
                _ => heard.request(signal),
            }
        }
    });
    Ok(stop)
}
