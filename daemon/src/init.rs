//! `codex-network-proxy init`: makes a CA in files, and prints where it is (SPEC L5, M3).

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use codex_network_config::{CaPaths, Settings, Sources, load};
use codex_network_policy::Interception;

use crate::ca::certificate::describe;
use crate::ca::files::{self, Made};
use crate::state;

/// Makes the CA's files at the configured paths. Reports an existing valid pair.
pub(crate) fn run(sources: &Sources) -> ExitCode {
    let outcome = load(sources)
        .map_err(|problems| problems.to_string())
        .and_then(|loaded| {
            let paths = place(&loaded.settings).map_err(|why| format!("error: {why}"))?;
            files::make(&paths, SystemTime::now())
                .map(|made| (paths, made, loaded.settings))
                .map_err(|error| format!("error: {error}"))
        });
    // The reader of our output may have closed it early; the exit code still has the result.
    match outcome {
        Ok((paths, made, settings)) => {
            let _ = tell(&mut io::stdout(), &paths, &made, &settings);
            ExitCode::SUCCESS
        }
        Err(why) => {
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

/// The configured files, else those of the state directory.
fn place(settings: &Settings) -> Result<CaPaths, String> {
    if let Some(paths) = &settings.mitm.ca_paths {
        return Ok(paths.clone());
    }
    let state = state::directory(&settings.daemon, |name| std::env::var_os(name));
    let state: Option<PathBuf> = state;
    state
        .map(|state| files::in_state(&state))
        .ok_or_else(|| state::NOWHERE.to_owned())
}

fn tell(out: &mut impl Write, paths: &CaPaths, made: &Made, settings: &Settings) -> io::Result<()> {
    let what = match made {
        Made::New(_) => "made a CA",
        Made::Completed(_) => "completed the CA that an interrupted init had begun",
        Made::There(_) => "a valid CA exists already; nothing was changed",
    };
    writeln!(out, "{what}")?;
    writeln!(out, "certificate  {}", paths.certificate.display())?;
    writeln!(out, "key          {}", paths.key.display())?;
    if let Some(described) = describe(made.ca().certificate()) {
        writeln!(out, "subject      {}", described.subject)?;
        writeln!(out, "fingerprint  SHA-256 {}", described.fingerprint)?;
    }
    if settings.policy.interception() == Interception::Forbidden {
        return writeln!(
            out,
            "\nmitm = false forbids interception, so nothing uses it yet."
        );
    }
    writeln!(
        out,
        "\nA running proxy takes it up at its next reload (`proxyctl reload`). `proxyctl ca show` says how\n\
         programs are made to trust it; `proxyctl ca install` makes this system trust it."
    )
}
