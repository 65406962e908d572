//! The signals that end a command which has something to do before it ends.

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// SIGINT, SIGTERM, SIGHUP and SIGQUIT.
pub(crate) struct EndingSignals([(i32, tokio::signal::unix::Signal); 4]);

impl EndingSignals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let caught = |which: Signal| -> Result<_, Failure> {
            let number = which as i32;
            Ok((number, signal(SignalKind::from_raw(number))?))
        };
        Ok(Self([
            caught(Signal::SIGINT)?,
            caught(Signal::SIGTERM)?,
            caught(Signal::SIGHUP)?,
            caught(Signal::SIGQUIT)?,
        ]))
    }

    /// The number of the next one.
    pub(crate) async fn next(&mut self) -> i32 {
        let [interrupt, terminate, hangup, quit] = &mut self.0;
        tokio::select! {
            _ = interrupt.1.recv() => interrupt.0,
            _ = terminate.1.recv() => terminate.0,
            _ = hangup.1.recv() => hangup.0,
            _ = quit.1.recv() => quit.0,
        }
    }
}
