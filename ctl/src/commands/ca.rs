//! `proxyctl ca`: the CA that signs certificates for intercepted connections.

mod export;
mod install;
mod show;

use codex_network_control::Client;
pub(super) use install::{need_root, uninstall};

use crate::args::CaCommand;
use crate::failure::Failure;
use crate::output::Output;

pub(super) async fn run(
    client: &Client,
    output: &Output,
    command: CaCommand,
) -> Result<(), Failure> {
    match command {
        CaCommand::Show => show::run(client, output).await,
        CaCommand::Export { bundle, out } => {
            let export = if bundle {
                export::Export::Bundle
            } else {
                export::Export::Certificate
            };
            export::run(client, output, export, out.as_deref()).await
        }
        CaCommand::Install => install::install(client, output).await,
        CaCommand::Uninstall => uninstall(output),
    }
}
