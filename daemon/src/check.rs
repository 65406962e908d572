//! `codex-network-proxy check`: every problem of a configuration, and a summary.

use std::io::{self, Write};
use std::process::ExitCode;

use codex_network_config::{Loaded, Sources, load};

use crate::{loader, logging, places};

/// Judges a configuration. A summary goes to standard output, problems to standard error.
pub(crate) fn run(sources: &Sources) -> ExitCode {
    // The reader of our output may have closed it early; the exit code still tells the result.
    match load(sources) {
        Ok(loaded) => {
            if let Err(error) = logging::check(&loaded.settings.daemon.log) {
                let _ = writeln!(io::stderr(), "error: {error}");
                return ExitCode::FAILURE;
            }
            let hosts = loaded.settings.daemon.resolver.hosts_file.as_deref();
            if let Some(Err(problems)) = hosts.map(loader::hosts) {
                let _ = writeln!(io::stderr(), "{}", problems.text);
                return ExitCode::FAILURE;
            }
            match places::judge(&loaded.settings, &loaded.secrets) {
                Ok(warnings) => {
                    for warning in warnings {
                        let _ = writeln!(io::stderr(), "warning: {warning}\n");
                    }
                }
                Err(error) => {
                    let _ = writeln!(io::stderr(), "{error}");
                    return ExitCode::FAILURE;
                }
            }
            for told in loaded.warnings.iter().chain(&loaded.notes) {
                let _ = writeln!(io::stderr(), "{told}\n");
            }
            let _ = summary(&mut io::stdout(), &loaded);
            ExitCode::SUCCESS
        }
        Err(problems) => {
            let _ = writeln!(io::stderr(), "{problems}");
            ExitCode::FAILURE
        }
    }
}

fn summary(out: &mut impl Write, loaded: &Loaded) -> io::Result<()> {
    let settings = &loaded.settings;
    let policy = &settings.policy;
    match settings.files.as_slice() {
        [] => writeln!(out, "no configuration files: built-in defaults")?,
        files => {
            for file in files {
                writeln!(out, "read {}", file.display())?;
            }
        }
    }
    let state = if policy.is_enabled() {
        "enabled"
    } else {
        "disabled"
    };
    let rules = |count: usize, list: &str| match count {
        1 => format!("1 {list} rule"),
        count => format!("{count} {list} rules"),
    };
    writeln!(
        out,
        "ok: {state}, {} mode, {}, {}",
        policy.mode(),
        rules(policy.allowed().len(), "allow"),
        rules(policy.denied().len(), "deny"),
    )?;
    match settings.mitm.hooks.len() {
        0 => {}
        1 => writeln!(out, "1 hook")?,
        count => writeln!(out, "{count} hooks")?,
    }
    let listen = &settings.listen;
    write!(out, "listens on http {}", listen.http)?;
    if let Some(socks5) = listen.socks5 {
        write!(out, ", socks5 {socks5}")?;
    }
    if let Some(admin) = listen.admin {
        write!(out, ", admin {admin}")?;
    }
    writeln!(out)
}
