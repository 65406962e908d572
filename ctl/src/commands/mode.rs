//! `proxyctl mode [full|limited]`.

use codex_network_control::Client;
use codex_network_control::message::ModeChange;
use codex_network_policy::Mode;

use crate::Failure;
use crate::output::{Form, Output, printable};

pub(super) async fn run(
    client: &Client,
    output: &Output,
    change: Option<Mode>,
) -> Result<(), Failure> {
    let mode = match change {
        None => client.mode().await?,
        Some(mode) => client.set_mode(ModeChange::to(mode)).await?,
    };
    if output.form() == Form::Json {
        return Ok(output.json(&mode)?);
    }
    let now = printable(&mode.mode);
    let sentence = match &mode.was {
        None => now,
        Some(was) if *was == mode.mode => format!("{now}, as before"),
        Some(was) => format!("{now}, until the next reload (was {})", printable(was)),
    };
    Ok(output.line(&sentence)?)
}
