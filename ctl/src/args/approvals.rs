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
    #[arg(long, conflicts_with = "permanent")]
    pub(crate) any_port: bool,
    #[command(flatten)]
    pub(crate) entry: PermanentArgs,
}

/// The options of `reject`.
#[derive(Debug, clap::Args)]
pub(crate) struct RejectArgs {
    /// The question's id, as `approvals` shows it.
    pub(crate) id: String,
    /// Add an entry to the deny list too, as `proxyctl deny` does.
    #[arg(long)]
    pub(crate) permanent: bool,
    #[command(flatten)]
    pub(crate) entry: PermanentArgs,
}

/// The options of a permanent answer.
#[derive(Debug, clap::Args)]
pub(crate) struct PermanentArgs {
    /// The entry, if it shall cover more than the host of the question.
    #[arg(long, value_name = "PATTERN", value_parser = super::pattern::allowed, requires = "permanent")]
    pub(crate) pattern: Option<String>,
    /// Why; becomes a part of the comment beside the entry.
    #[arg(long, value_name = "TEXT", value_parser = super::change::reason, requires = "permanent")]
    pub(crate) reason: Option<String>,
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

    /// Add an entry to the allow list, as `proxyctl allow` does: it counts for every client and every port until it
    /// is removed. If it cannot be written, the question is denied.
    #[arg(long)]
    pub(crate) permanent: bool,
}
