//! The rules of a session: the options that narrow it, and those that widen it with their presets.

use codex_network_control::message::Narrowing;

use crate::args::run::{RunArgs, SessionMode};
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::presets;

/// Reads the options. Asks the tools of the presets, and says what each preset allows.
pub(super) fn read(args: &RunArgs, output: &Output) -> Result<Narrowing, Failure> {
    let mut allow = args.allow.clone();
    for name in &args.preset {
        let preset = presets::expand(name).map_err(Failure::NoSession)?;
        let patterns: Vec<&str> = preset
            .patterns
            .iter()
            .map(|found| found.pattern.as_str())
            .collect();
        output.remark(&format!(
            "proxyctl: preset {name} allows {}",
            printable(&patterns.join(", "))
        ));
        allow.extend(patterns.into_iter().map(str::to_owned));
    }
    allow.sort();
    allow.dedup();
    Ok(Narrowing {
        limited: args.mode == Some(SessionMode::Limited),
        deny: args.deny.clone(),
        only: args.only.clone(),
        allow,
        report: args.learn,
    })
}
