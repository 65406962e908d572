//! `proxyctl mode [full|limited]`.

use codex_network_control::Client;
use codex_network_control::message::ModeChange;
use codex_network_policy::Mode;

use crate::failure::Failure;
use crate::output::{Output, OutputFormat, printable};

pub(super) async fn run(
    client: &Client,
    output: &Output,
    change: Option<Mode>,
) -> Result<(), Failure> {
    let mode = match change {
        None => client.mode().await?,
        Some(mode) => client.set_mode(ModeChange::to(mode)).await?,
    };
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&mode)?);
    }
    let now = printable(&mode.mode);
    let sentence = match &mode.was {
        None => now,
        Some(was) if *was == mode.mode => format!("{now}, {} (as before)", until(&mode.mode)),
        Some(was) => format!("{now}, {} (was {})", until(&mode.mode), printable(was)),
    };
    Ok(output.sentence(&sentence)?)
}

/// How long a mode lasts that was set at run time. A reload ends full mode, and keeps limited mode.
fn until(mode: &str) -> &'static str {
    if mode == Mode::Full.as_str() {
        "until the next reload"
    } else {
        "until it is changed again or the service restarts"
    }
}
