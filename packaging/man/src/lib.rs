//! Writes the man pages and shell completions of both programs, for the packages.
//!
//! They are generated here and not by the programs, so that the programs, one of which runs as root,
//! do not contain the generators. The source is the same definition of the command line that each
//! program uses. It is compiled in here from the program's own file.
//!
//! - `proxy_page`: `codex-network-proxy(8)`.
//! - `proxyctl_pages`: `proxyctl(1)`, and one page for each of its commands.
//! - `roff`: what the pages have in common.

mod proxy_page;
mod proxyctl_pages;
mod roff;

#[expect(
    dead_code,
    reason = "only the definition of the command line is used, not the values"
)]
#[path = "../../../daemon/src/args.rs"]
mod proxy_args;

#[path = "../../../ctl/src/args.rs"]
mod proxyctl_args;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

/// The folder with the pages that are written by hand, and the hand-written parts of the others.
const WRITTEN: &str = env!("CARGO_MANIFEST_DIR");

/// Writes all man pages into `man` and all completions into `completions` below a directory. Makes
/// both. Pages written by hand are copied, so `man` has every page.
///
/// # Errors
///
/// Returns an error if a file or directory cannot be read or written.
pub fn write(directory: &Path) -> anyhow::Result<()> {
    let pages = make(directory, "man")?;
    proxy_page::write(&proxy(), &pages)?;
    proxyctl_pages::write(proxyctl(), &pages)?;
    copy_written_pages(&pages)?;
    let completions = make(directory, "completions")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        for mut command in [proxy(), proxyctl()] {
            let name = command.get_name().to_owned();
            clap_complete::generate_to(shell, &mut command, &name, &completions)
                .with_context(|| format!("cannot write the completions of {name} for {shell}"))?;
        }
    }
    Ok(())
}

fn make(directory: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = directory.join(name);
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// Copies the files of this folder whose names end in the number of a section, such as `.5`.
fn copy_written_pages(to: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot copy the man pages of {WRITTEN}");
    for entry in fs::read_dir(WRITTEN).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let section = path.extension().and_then(|section| section.to_str());
        if let (Some("1" | "5" | "7" | "8"), Some(name)) = (section, path.file_name()) {
            fs::write(to.join(name), fs::read(&path).with_context(cannot)?).with_context(cannot)?;
        }
    }
    Ok(())
}

/// The command line of `codex-network-proxy`, without the commands that only its monitor uses.
/// Completions would offer them.
fn proxy() -> Command {
    let all = proxy_args::Args::command();
    let public = all.get_subcommands().filter(|one| !one.is_hide_set());
    Command::new("codex-network-proxy")
        .version(env!("CARGO_PKG_VERSION"))
        .about(all.get_about().cloned().unwrap_or_default())
        .after_help(all.get_after_help().cloned().unwrap_or_default())
        .args(all.get_arguments())
        .subcommands(public)
}

/// The command line of `proxyctl`.
fn proxyctl() -> Command {
    proxyctl_args::Args::command()
}
