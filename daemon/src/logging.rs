//! Where messages and records go: lines on standard error, as text or JSON (SPEC R4).

use anyhow::Context as _;
use codex_network_config::LogFormat;
use tracing_subscriber::EnvFilter;

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
pub(crate) fn init_plain(json: bool) -> anyhow::Result<()> {
    init(
        "info",
        if json {
            LogFormat::Json
        } else {
            LogFormat::Text
        },
    )
}

/// Sets the process's logging up. To be called once.
pub(crate) fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("[daemon] log = {filter:?} is neither a level nor a filter"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Whoever read our log may have gone; telling that to the same place would be a panic.
        .log_internal_errors(false);
    let set = match format {
        LogFormat::Json => lines.json().try_init(),
        LogFormat::Auto | LogFormat::Journal | LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr())
                && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colour).with_target(false).try_init()
        }
    };
    set.map_err(|error| anyhow::anyhow!("cannot set up logging: {error}"))
}
