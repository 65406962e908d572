//! The installed files: one line for each, with its path and mode.
//!
//! Everything belongs to root:wheel. On a Mac `/etc` and `/var` are links to directories below
//! `/private`, and a package with directories of these names would replace the links.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use self::From::{Made, Pages, Program, Tree};

/// The source of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A program for both architectures.
    Program(&'static str),
    /// A file of the source tree.
    Tree(&'static str),
    /// A file that `packaging/man` generates.
    Made(&'static str),
    /// A directory of man pages: each goes into the `manN` of its section.
    Pages(&'static str),
}

/// One line of the list.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Its source.
    pub from: From,
    /// Its path on the Mac, without the first `/`.
    pub to: &'static str,
    /// Its mode.
    pub mode: u32,
}

const fn line(from: From, to: &'static str, mode: u32) -> Line {
    Line { from, to, mode }
}

/// The list. `scripts/postinstall` copies a file below `etc` that ends in `.default` to the name
/// without the ending, unless that file exists.
#[rustfmt::skip] // a table
pub const CONTENTS: &[Line] = &[
    line(Program("codex-network-proxy"), "usr/local/libexec/codex-network-proxy/codex-network-proxy", 0o755),
    line(Program("proxyctl"), "usr/local/libexec/codex-network-proxy/proxyctl", 0o755),
    line(Tree("packaging/macos/uninstall.sh"), "usr/local/libexec/codex-network-proxy/uninstall", 0o755),
    line(Tree("launchd/com.openai.codex-network-proxy.plist"), "Library/LaunchDaemons/com.openai.codex-network-proxy.plist", 0o644),
    line(Tree("launchd/com.openai.codex-network-proxy.resolver.plist"), "Library/LaunchDaemons/com.openai.codex-network-proxy.resolver.plist", 0o644),
    line(Tree("LICENSE"), "usr/local/share/doc/codex-network-proxy/LICENSE", 0o644),
    line(Tree("README.md"), "usr/local/share/doc/codex-network-proxy/README.md", 0o644),
    line(Tree("SECURITY.md"), "usr/local/share/doc/codex-network-proxy/SECURITY.md", 0o644),
    line(Tree("CHANGELOG.md"), "usr/local/share/doc/codex-network-proxy/CHANGELOG.md", 0o644),
    line(Tree("packaging/OPERATING.md"), "usr/local/share/doc/codex-network-proxy/OPERATING.md", 0o644),
    line(Tree("packaging/config/config.toml"), "private/etc/codex-network-proxy/config.toml.default", 0o644),
    line(Tree("packaging/config/requirements.toml"), "private/etc/codex-network-proxy/requirements.toml.default", 0o644),
    line(Pages("man"), "usr/local/share/man", 0o644),
    line(Made("completions/codex-network-proxy.bash"), "usr/local/share/bash-completion/completions/codex-network-proxy", 0o644),
    line(Made("completions/_codex-network-proxy"), "usr/local/share/zsh/site-functions/_codex-network-proxy", 0o644),
    line(Made("completions/codex-network-proxy.fish"), "usr/local/share/fish/vendor_completions.d/codex-network-proxy.fish", 0o644),
    line(Made("completions/proxyctl.bash"), "usr/local/share/bash-completion/completions/proxyctl", 0o644),
    line(Made("completions/_proxyctl"), "usr/local/share/zsh/site-functions/_proxyctl", 0o644),
    line(Made("completions/proxyctl.fish"), "usr/local/share/fish/vendor_completions.d/proxyctl.fish", 0o644),
];

/// Directories that are installed empty.
pub const DIRECTORIES: &[&str] = &[
    "private/etc/codex-network-proxy",
    "private/etc/codex-network-proxy/conf.d",
];

/// The places of the three kinds of sources.
#[derive(Clone, Debug)]
pub struct Places {
    /// The directory of the programs.
    pub programs: PathBuf,
    /// The root of the source tree.
    pub tree: PathBuf,
    /// The directory of generated files.
    pub made: PathBuf,
}

/// A file to pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path now.
    pub source: PathBuf,
    /// Its path on the Mac, without the first `/`.
    pub to: String,
    /// Its mode.
    pub mode: u32,
}

/// The list with directories of pages replaced by the pages, in the order of the list.
///
/// # Errors
///
/// Returns an error if a directory cannot be read, is empty, or holds a file that is not a man
/// page.
pub fn files(places: &Places) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    for Line { from, to, mode } in CONTENTS {
        let file = |source, to: &str| File {
            source,
            to: to.to_owned(),
            mode: *mode,
        };
        match from {
            Program(name) => files.push(file(places.programs.join(name), to)),
            Tree(path) => files.push(file(places.tree.join(path), to)),
            Made(path) => files.push(file(places.made.join(path), to)),
            Pages(directory) => {
                let directory = places.made.join(directory);
                for (name, section) in pages(&directory)? {
                    files.push(file(
                        directory.join(&name),
                        &format!("{to}/man{section}/{name}"),
                    ));
                }
            }
        }
    }
    Ok(files)
}

/// The man pages in a directory, by name, each with its section.
fn pages(directory: &Path) -> anyhow::Result<Vec<(String, char)>> {
    let cannot = || format!("cannot read the man pages in {}", directory.display());
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(cannot)? {
        let name = entry.with_context(cannot)?.file_name();
        let page = name.to_str().and_then(|name| {
            let (_, section) = name.rsplit_once('.')?;
            let section: char = section.parse().ok()?;
            matches!(section, '1'..='8').then(|| (name.to_owned(), section))
        });
        pages.push(page.with_context(|| format!("{} is not a man page", name.display()))?);
    }
    if pages.is_empty() {
        bail!("there is no man page in {}", directory.display());
    }
    pages.sort_unstable();
    Ok(pages)
}
