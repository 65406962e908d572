//! Writes the package: a flat archive like that of `productbuild`.
//!
//! `embala-pkg` does nearly all of it. Two things that it does not support are added to its two XML
//! files afterwards: the required version of macOS, and that existing directories keep their owners
//! and modes (`/usr/local/bin` is often Homebrew's).

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context as _, ensure};
use apple_xar::reader::XarReader;
use embala_pkg::{DirSpec, FileSpec, PkgSpec, XarEntry, XarEntryKind};

use crate::contents::{self, CONTENTS, DIRECTORIES, From, Places};
use crate::program::{self, MINIMUM_OS};

/// The package's identifier, also the label of the service.
pub const IDENTIFIER: &str = "com.openai.codex-network-proxy";
/// The title in the installer.
const TITLE: &str = "codex-network-proxy";
/// The files of the one component, in the order of `productbuild`. The flag marks those that are
/// already compressed.
const COMPONENT: [(&str, bool); 4] = [
    ("Bom", false),
    ("Payload", true),
    ("Scripts", true),
    ("PackageInfo", false),
];

/// Makes the package in memory.
///
/// # Errors
///
/// Returns an error if a file is missing, a Mac would not start a program, or the archive cannot be
/// written.
pub fn build(places: &Places, version: &str) -> anyhow::Result<Vec<u8>> {
    for line in CONTENTS {
        if let From::Program(name) = line.from {
            let path = places.programs.join(name);
            let content = std::fs::read(&path)
                .with_context(|| format!("cannot read the program {}", path.display()))?;
            program::check(&content)
                .with_context(|| format!("{} cannot be packed", path.display()))?;
        }
    }
    let spec = PkgSpec {
        name: "codex-network-proxy".to_owned(),
        display_name: TITLE.to_owned(),
        identifier: IDENTIFIER.to_owned(),
        version: version.to_owned(),
        install_location: "/".to_owned(),
        enable_user_home: false,
        files: contents::files(places)?
            .into_iter()
            .map(|file| FileSpec {
                src: file.source,
                dest: file.to,
                mode: Some(file.mode),
            })
            .collect(),
        directories: DIRECTORIES
            .iter()
            .map(|directory| DirSpec {
                dest: (*directory).to_owned(),
                mode: Some(0o755),
            })
            .collect(),
        scripts: Some(places.tree.join("packaging/macos/scripts")),
    };
    for file in &spec.files {
        // The writer's own message does not name the file.
        ensure!(file.src.is_file(), "there is no {}", file.src.display());
    }
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let plain = directory.path().join("plain.pkg");
    embala_pkg::build(&spec, &plain).context("cannot write the package")?;
    amend(&plain)
}

/// Rewrites the archive with the parts that `embala-pkg` does not write.
fn amend(plain: &Path) -> anyhow::Result<Vec<u8>> {
    let mut archive = XarReader::new(Cursor::new(std::fs::read(plain)?))
        .context("cannot read the package back")?;
    let component = "codex-network-proxy.pkg";
    let mut read = |path: &str| -> anyhow::Result<Vec<u8>> {
        let content = archive
            .get_file_data_from_path(path)
            .with_context(|| format!("cannot read {path} back"))?;
        content.with_context(|| format!("the package has no {path}"))
    };
    let (major, minor) = MINIMUM_OS;
    let distribution = insert_after(
        &read("Distribution")?,
        "hostArchitectures=\"x86_64,arm64\"/>",
        &format!(
            "\n    <volume-check>\n        <allowed-os-versions>\n            \
             <os-version min=\"{major}.{minor}\"/>\n        \
             </allowed-os-versions>\n    </volume-check>"
        ),
    )?;
    let mut files = Vec::new();
    for (name, store) in COMPONENT {
        let mut data = read(&format!("{component}/{name}"))?;
        if name == "PackageInfo" {
            data = replace(
                &data,
                "overwrite-permissions=\"true\"",
                "overwrite-permissions=\"false\"",
            )?;
        }
        files.push((name, store, data));
    }
    let children = files
        .iter()
        .map(|(name, store, data)| XarEntry {
            name,
            kind: XarEntryKind::File {
                data,
                mode: 0o644,
                store: *store,
            },
        })
        .collect();
    let entries = [
        XarEntry {
            name: component,
            kind: XarEntryKind::Directory {
                mode: 0o700,
                children,
            },
        },
        XarEntry {
            name: "Distribution",
            kind: XarEntryKind::File {
                data: &distribution,
                mode: 0o644,
                store: false,
            },
        },
    ];
    let mut amended = Vec::new();
    embala_pkg::write_xar(&entries, &mut amended).context("cannot write the package")?;
    Ok(amended)
}

fn insert_after(text: &[u8], place: &str, insert: &str) -> anyhow::Result<Vec<u8>> {
    replace(text, place, &format!("{place}{insert}"))
}

/// Replaces a text that must occur exactly once.
fn replace(text: &[u8], old: &str, new: &str) -> anyhow::Result<Vec<u8>> {
    let text = std::str::from_utf8(text).context("the package's XML is not text")?;
    ensure!(
        text.matches(old).count() == 1,
        "the package's XML has changed its form: {old:?} is not in it once"
    );
    Ok(text.replace(old, new).into_bytes())
}
