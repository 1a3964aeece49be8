//! SIGINT and SIGTERM: the first asks the loop to save and stop, the second ends the process at once. SIGUSR1 asks it to save and go on, SIGUSR2 to
//! save and stop with the exit code that asks a scheduler to start the run again.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

/// Passes a request to stop on to other processes, until it is dropped.
#[derive(Debug)]
pub(crate) struct PassedOn(Arc<AtomicBool>);

impl Drop for PassedOn {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Asks the processes that `running` names, once, to save and stop when `stop` is requested. They are asked as a scheduler would: one that was
/// already told, as by the terminal, takes that for nothing new, where a second signal of the kind would end it at once.
pub(crate) fn pass_on(stop: &StopSignal, running: impl Fn() -> Vec<u32> + Send + 'static) -> PassedOn {
    let is_over = Arc::new(AtomicBool::new(false));
    let (ended, stop) = (Arc::clone(&is_over), stop.clone());
    std::thread::spawn(move || {
        while !ended.load(Ordering::SeqCst) {
            if stop.requested().is_some() {
                for pid in running() {
                    // One that has ended by itself meanwhile is no failure.
                    drop(Command::new("kill").args(["-USR2", &pid.to_string()]).status());
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    PassedOn(is_over)
}
