//! The options of `allow`, `deny` and `unset` (SPEC W3).

use std::path::PathBuf;
use std::time::Duration;

use codex_network_config::parse_duration;

pub(super) const CHANGE_RULES: &str = "The file that changes is the strongest one that has the list and that this user may \
    change, else the main file: the one that the running proxy was started with (--config), \
    /etc/codex-network-proxy/config.toml of the service, or the user's ~/.codex/config.toml. Without a running \
    proxy, the files that a proxy of this user would read count. If the proxy refuses the reload, the file gets \
    its old content back.";

/// The options of a new entry.
#[derive(Debug, clap::Args)]
pub(crate) struct EntryArgs {
    /// Why; becomes a comment beside the entry, with the date and the user.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: Option<String>,
}

/// The options of a permission for a time.
#[derive(Debug, clap::Args)]
pub(crate) struct AllowTime {
    /// Allow one host for this long, at most 24 hours, and change no file: a grant, as `approve --for` gives one
    /// (`grants`, `revoke`). An administrator allows it for every client, others for their own sessions.
    #[arg(
        long = "for",
        value_name = "TIME",
        value_parser = parse_duration,
        conflicts_with_all = ["reason", "dry_run", "config"]
    )]
    pub(crate) time: Option<Duration>,

    /// Allow it for this session alone (`proxyctl sessions`).
    #[arg(long, value_name = "ID", requires = "time")]
    pub(crate) session: Option<String>,
}

/// The options of a change of the configuration.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ChangeArgs {
    /// Show the change, and make none.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// The configuration file to change, instead of those of the running proxy.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Checks the text of a comment in a file.
pub(super) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("a reason is one line of text without control characters".to_owned());
    }
    Ok(text.to_owned())
}
