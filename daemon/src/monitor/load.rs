//! Running a loader and taking what it says.

use std::ffi::OsString;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;

use anyhow::{Context as _, bail};

use super::Event;
use crate::privsep;
use crate::privsep::settled::Loaded;

/// Most that a loader may say: some files of the largest size that is read.
const LONGEST: u64 = 512 << 20;

/// Runs a loader to its end.
pub(super) fn load(arguments: &[OsString]) -> anyhow::Result<Loaded> {
    let mut loader = Command::new(privsep::this_program()?)
        .args(arguments)
        .arg(privsep::LOADER)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the loader")?;
    let mut said = Vec::new();
    let outcome = match loader.stdout.take() {
        Some(stdout) => stdout.take(LONGEST).read_to_end(&mut said).map(|_| ()),
        None => Ok(()),
    };
    let status = loader.wait().context("cannot wait for the loader")?;
    outcome.context("cannot read what the loader says")?;
    if !status.success() {
        bail!("the loader failed ({status})");
    }
    Loaded::decode(&said).context("the loader says something else than it should")
}

/// Runs a loader beside the loop, which hears of the outcome.
pub(super) fn start(arguments: &[OsString], ticket: u32, events: Sender<Event>) {
    let arguments = arguments.to_vec();
    std::thread::spawn(move || {
        // A loop that has ended needs no outcome.
        let _ = events.send(Event::Loaded(ticket, load(&arguments)));
    });
}
