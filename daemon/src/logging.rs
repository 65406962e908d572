//! Where messages and records go: native journal fields under systemd, else lines on standard error,
//! as text or JSON (SPEC R4).

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use codex_network_config::LogFormat;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use crate::privsep::settled::Lines;

/// Whether `[daemon] log` can be used.
///
/// # Errors
///
/// What is wrong with it, in a sentence.
pub(crate) fn check(filter: &str) -> Result<(), String> {
    match EnvFilter::try_new(filter) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "[daemon] log = {filter:?} is neither a level (as \"info\") nor a filter (as \
             \"warn,codex_network_engine=debug\"): {error}"
        )),
    }
}

/// Sets the monitor's logging up, which has no settings to look into. To be called once.
pub(crate) fn init_plain(lines: Lines) -> anyhow::Result<()> {
    let format = match lines {
        Lines::Auto => LogFormat::Auto,
        Lines::Journal => LogFormat::Journal,
        Lines::Text => LogFormat::Text,
        Lines::Json => LogFormat::Json,
    };
    init("info", format)
}

/// Sets the process's logging up. To be called once, and before the process is confined: the
/// journal's socket is opened here.
pub(crate) fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("[daemon] log = {filter:?} is neither a level nor a filter"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let journal = match format {
        LogFormat::Journal => true,
        LogFormat::Auto => stderr_is_the_journal(),
        LogFormat::Text | LogFormat::Json => false,
    };
    // Whoever read our log may have gone; telling that to the same place would be a panic.
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .log_internal_errors(false);
    let set = if journal {
        let journal = tracing_journald::layer()
            .context("cannot reach the journal; set [daemon] log_format to \"text\" or \"json\"")?
            .with_syslog_identifier(env!("CARGO_PKG_NAME").to_owned())
            .with_field_prefix(None);
        registry.with(journal).try_init()
    } else if format == LogFormat::Json {
        registry.with(lines.json()).try_init()
    } else {
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        registry
            .with(lines.with_ansi(colour).with_target(false))
            .try_init()
    };
    set.map_err(|error| anyhow::anyhow!("cannot set up logging: {error}"))
}

/// Whether standard error goes to the journal anyway: then native fields say more than lines
/// (`systemd.exec(5)`, `$JOURNAL_STREAM`).
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    nix::sys::stat::fstat(io::stderr()).is_ok_and(|stderr| {
        stream.to_str() == Some(&format!("{}:{}", stderr.st_dev, stderr.st_ino))
    })
}
