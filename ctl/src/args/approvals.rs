//! The options of the commands about questions (SPEC Q3).

use std::time::Duration;

use codex_network_config::parse_duration;

/// The options of `approve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArgs {
    /// The question's id, as `approvals` shows it.
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) scope: ApproveScope,
    /// Approve all ports of the host.
    #[arg(long)]
    pub(crate) any_port: bool,
}

/// How long a grant lasts. The default is the session, or 15 minutes without one.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct ApproveScope {
    /// Approve one connection: the one that waits, or the next one.
    #[arg(long)]
    pub(crate) once: bool,

    /// Approve until the session ends: the default for a client in a session.
    #[arg(long)]
    pub(crate) session: bool,

    /// Approve for this long, at most 24 hours; the default for a client without a session is 15m.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) time: Option<Duration>,
}
