//! One module per command. Most call the proxy and write the answer.

mod approvals;
mod blocked;
mod ca;
mod change;
mod config;
mod credentials;
mod env;
mod explain;
mod mode;
mod patterns;
mod presets;
mod reload;
#[cfg(target_os = "linux")]
mod run;
mod sessions;
mod shadow;
mod status;
mod suggest;

use std::path::PathBuf;

use codex_network_control::Client;
use codex_network_control::message::ExplainQuery;

use crate::args::change::AllowTime;
use crate::args::{Args, CaCommand, Command, SessionsCommand};
use crate::doctor;
use crate::failure::Failure;
use crate::find::{self, ProxyTrust};
use crate::output::Output;
use crate::watch;

/// Runs the command line.
pub(crate) fn run(args: Args, output: &Output) -> Result<(), Failure> {
    // Commands that need no proxy.
    match args.command {
        Command::Ca {
            command: CaCommand::Uninstall,
        } => return ca::uninstall(output),
        // Checked before the proxy is contacted.
        Command::Ca {
            command: CaCommand::Install,
        } => ca::need_root("install")?,
        Command::Watch => watch::check(output)?,
        Command::Doctor { checks } => return doctor::run(args.socket, output, checks),
        Command::Env { shell, unset: true } => return env::unset(output, shell),
        #[cfg(target_os = "linux")]
        Command::Run(run) => return run::run(args.socket, output, &run),
        #[cfg(not(target_os = "linux"))]
        Command::Run(_) => {
            return Err(Failure::NoSession(
                "`run` needs Linux; point programs at the proxy with `proxyctl env`".to_owned(),
            ));
        }
        Command::Presets { name } => return presets::run(output, name.as_deref()),
        command @ (Command::Allow {
            time: AllowTime { time: None, .. },
            ..
        }
        | Command::Deny { .. }
        | Command::Unset { .. }) => {
            return change::run(args.socket, output, command);
        }
        Command::Approve(approve) if approve.scope.permanent => {
            return approvals::approve_permanently(args.socket, output, &approve);
        }
        Command::Reject(reject) if reject.permanent => {
            return approvals::reject_permanently(args.socket, output, reject);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let client = connect(args.socket, &args.command).await?;
        match args.command {
            Command::Watch => watch::run(client).await,
            Command::Status => status::run(&client, output).await,
            Command::Mode { mode } => mode::run(&client, output, mode.map(Into::into)).await,
            Command::Reload => reload::run(&client, output).await,
            Command::Suggest { since, session } => {
                suggest::run(&client, output, since, session.as_deref()).await
            }
            Command::Shadow { file, time } => shadow::run(client, output, &file, time).await,
            Command::Patterns => patterns::run(&client, output).await,
            Command::Config => config::run(&client, output).await,
            Command::Explain {
                url,
                method,
                headers,
                resolve,
                session,
            } => {
                let query = ExplainQuery {
                    url,
                    method,
                    headers,
                    resolve,
                    session,
                };
                explain::run(&client, output, query).await
            }
            Command::Ca { command } => ca::run(&client, output, command).await,
            Command::Env { shell, .. } => env::set(&client, output, shell).await,
            command @ (Command::Blocked { .. }
            | Command::Sessions { .. }
            | Command::Approvals { .. }
            | Command::Approve(_)
            | Command::Reject(_)
            | Command::Grants
            | Command::Revoke { .. }
            | Command::Allow { .. }) => about_sessions(client, output, command).await,
            Command::Credentials => credentials::list(&client, output).await,
            // These need no proxy.
            Command::Run(_)
            | Command::Doctor { .. }
            | Command::Presets { .. }
            | Command::Deny { .. }
            | Command::Unset { .. } => Ok(()),
        }
    })
}

/// The commands about refusals, sessions, questions and grants.
async fn about_sessions(client: Client, output: &Output, command: Command) -> Result<(), Failure> {
    match command {
        Command::Blocked {
            summary: true,
            since,
            ..
        } => blocked::summary::run(&client, output, since).await,
        Command::Blocked {
            follow: true,
            since,
            ..
        } => blocked::follow(client, output, since).await,
        Command::Blocked {
            follow: false,
            since,
            ..
        } => blocked::list(&client, output, since).await,
        Command::Approvals { follow, exec } => approvals::run(client, output, follow, exec).await,
        Command::Approve(approve) => approvals::approve(&client, output, approve).await,
        Command::Reject(reject) => approvals::reject(&client, output, reject.id).await,
        Command::Grants => approvals::grants(&client, output).await,
        Command::Revoke { id } => approvals::revoke(&client, output, id).await,
        Command::Allow { pattern, time, .. } => {
            approvals::allow(&client, output, pattern, time).await
        }
        Command::Sessions { command: None } => sessions::list(&client, output).await,
        Command::Sessions {
            command: Some(SessionsCommand::End { id }),
        } => sessions::end(&client, output, id).await,
        _ => Ok(()),
    }
}

/// Connects to the proxy that a command is about.
async fn connect(socket: Option<PathBuf>, command: &Command) -> Result<Client, Failure> {
    if may_be_private(command) {
        find::connect_or_private(socket).await
    } else {
        find::connect(socket, trust(command)).await
    }
}

/// Whether a command is about sessions and their questions, which a private proxy of `run` has too (SPEC Q6).
fn may_be_private(command: &Command) -> bool {
    matches!(
        command,
        Command::Watch
            | Command::Approvals { .. }
            | Command::Approve(_)
            | Command::Reject(_)
            | Command::Grants
            | Command::Revoke { .. }
            | Command::Sessions { .. }
            | Command::Blocked { .. }
            | Command::Explain { .. }
            // For a time.
            | Command::Allow { .. }
    )
}

/// Which users' proxies a command trusts.
fn trust(command: &Command) -> ProxyTrust {
    match command {
        Command::Ca {
            command: CaCommand::Install,
        } => ProxyTrust::RootOnly,
        _ => ProxyTrust::ByFlag,
    }
}
