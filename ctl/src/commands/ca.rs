//! `proxyctl ca`: the CA that signs certificates for intercepted connections, and whether the
//! system trusts it.

mod export;
mod install;
mod show;
pub(super) mod store;

use codex_network_control::Client;

use crate::Failure;
use crate::args::CaCommand;
use crate::output::Output;

pub(super) use install::{need_root, uninstall};

pub(super) async fn run(
    client: &Client,
    output: &Output,
    command: CaCommand,
) -> Result<(), Failure> {
    match command {
        CaCommand::Show => show::run(client, output).await,
        CaCommand::Export { bundle, out } => {
            let what = if bundle {
                export::What::Bundle
            } else {
                export::What::Certificate
            };
            export::run(client, output, what, out.as_deref()).await
        }
        CaCommand::Install => install::install(client, output).await,
        CaCommand::Uninstall => uninstall(output),
    }
}

/// The error when there is no CA.
fn none() -> Failure {
    Failure::Failed(
        "there is no CA, since the configuration forbids interception (mitm = false)".to_owned(),
    )
}
