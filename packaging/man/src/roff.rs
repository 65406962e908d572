//! The parts that the generated pages share: title line, date, and the section on reasons.

use std::env;

use clap::Command;
use clap_mangen::Man;
use time::OffsetDateTime;

/// The section that explains the reasons of decisions.
pub(crate) const REASONS: &str = include_str!("../reasons.roff");

/// A page whose title line names the version and the date.
pub(crate) fn page(command: Command, section: &str, manual: &str) -> Man {
    Man::new(command)
        .section(section)
        .date(date())
        .source(format!("codex-network-proxy {}", env!("CARGO_PKG_VERSION")))
        .manual(manual)
}

/// The date of the sources for a reproducible build (`SOURCE_DATE_EPOCH`), else today.
fn date() -> String {
    let epoch = env::var("SOURCE_DATE_EPOCH").ok();
    let of_sources = epoch
        .and_then(|seconds| seconds.parse().ok())
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let date = of_sources.unwrap_or_else(OffsetDateTime::now_utc).date();
    date.to_string()
}
