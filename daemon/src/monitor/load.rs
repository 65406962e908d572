//! Running a loader and taking what it says.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;

use anyhow::{Context as _, bail};

use super::Event;
use crate::ca::Scalar;
use crate::privsep;
use crate::privsep::settled::Loaded;

/// Most that a loader may say: some files of the largest size that is read.
const LONGEST: u64 = 512 << 20;

/// What a loader is given.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    /// How to find the configuration.
    pub(super) words: Vec<OsString>,
    /// The certificate of the CA that the monitor made, for the public files.
    pub(super) certificate: Vec<u8>,
}

/// Runs a loader to its end.
pub(super) fn load(arguments: &Arguments) -> anyhow::Result<Loaded> {
    let mut loader = Command::new(privsep::this_program()?)
        .args(&arguments.words)
        .arg(privsep::LOADER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the loader")?;
    // It fits into the pipe. A loader that is gone already says more by how it went.
    let _ = loader
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(&arguments.certificate));
    let mut key = Scalar::default();
    let mut said = Vec::new();
    let outcome = match loader.stdout.take() {
        Some(mut stdout) => stdout
            .read_exact(&mut key[..])
            .and_then(|()| stdout.take(LONGEST).read_to_end(&mut said).map(|_| ())),
        None => Ok(()),
    };
    let status = loader.wait().context("cannot wait for the loader")?;
    if !status.success() {
        bail!("the loader failed ({status})");
    }
    outcome.context("cannot read what the loader says")?;
    Loaded::decode(&key, &said).context("the loader says something else than it should")
}

/// Runs a loader beside the loop, which hears of the outcome.
pub(super) fn start(arguments: &Arguments, ticket: u32, events: Sender<Event>) {
    let arguments = arguments.clone();
    std::thread::spawn(move || {
        // A loop that has ended needs no outcome.
        let _ = events.send(Event::Loaded(ticket, load(&arguments)));
    });
}
