//! Checks a program before it is packed: would a Mac start it?
//!
//! It was linked against stubs (`packaging/macos/frameworks`), so its requirements are read back
//! from its load commands: libraries that every Mac has, and an old enough version of macOS.

use anyhow::{Context as _, bail, ensure};
use object::macho::{
    self, FatHeader, LC_BUILD_VERSION, LC_CODE_SIGNATURE, MachHeader64, PLATFORM_MACOS,
};
use object::read::macho::{FatArch as _, MachHeader as _, MachOFatFile32};
use object::{Architecture, LittleEndian};

/// The oldest macOS that the programs start on: the first for both architectures.
pub const MINIMUM_OS: (u16, u8) = (11, 0);

/// The libraries that a program may be linked with: parts of every macOS since [`MINIMUM_OS`].
pub const LIBRARIES: [&str; 3] = [
    "/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation",
    "/System/Library/Frameworks/Security.framework/Versions/A/Security",
    "/usr/lib/libSystem.B.dylib",
];

/// Checks a universal program.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub fn check(content: &[u8]) -> anyhow::Result<()> {
    ensure!(
        content.starts_with(&macho::FAT_MAGIC.to_be_bytes()),
        "it is not a universal Mach-O file"
    );
    // `parse` would accept anything with a header of this size.
    ensure!(content.len() >= size_of::<FatHeader>(), "it is cut off");
    let fat = MachOFatFile32::parse(content).context("its list of architectures is damaged")?;
    let mut found = Vec::new();
    for slice in fat.arches() {
        let architecture = slice.architecture();
        let data = slice
            .data(content)
            .with_context(|| format!("its part for {architecture:?} is cut off"))?;
        check_slice(architecture, data)
            .with_context(|| format!("its part for {architecture:?} cannot be used"))?;
        found.push(architecture);
    }
    for wanted in [Architecture::Aarch64, Architecture::X86_64] {
        ensure!(found.contains(&wanted), "it has no part for {wanted:?}");
    }
    ensure!(found.len() == 2, "it has more parts than two");
    Ok(())
}

fn check_slice(architecture: Architecture, data: &[u8]) -> anyhow::Result<()> {
    let header = MachHeader64::<LittleEndian>::parse(data, 0).context("it has no header")?;
    let endian = header.endian().context("it has no header")?;
    ensure!(
        header.filetype(endian) == macho::MH_EXECUTE,
        "it is not a program"
    );
    ensure!(
        header.flags(endian).0 & macho::MH_PIE.0 != 0,
        "it cannot be loaded at a random address"
    );
    let mut minimum = None;
    let mut signed = false;
    let mut libraries = Vec::new();
    let mut commands = header
        .load_commands(endian, data, 0)
        .context("its load commands are damaged")?;
    while let Some(command) = commands.next().context("its load commands are damaged")? {
        if command.cmd() == LC_BUILD_VERSION {
            let version = command
                .data::<macho::BuildVersionCommand<LittleEndian>>()
                .context("its load commands are damaged")?;
            ensure!(
                version.platform.get(endian) == PLATFORM_MACOS,
                "it is not for macOS"
            );
            minimum = Some(version.minos.get(endian).0);
        }
        signed |= command.cmd() == LC_CODE_SIGNATURE;
        if let Some(library) = command.dylib().context("its load commands are damaged")? {
            let name = command
                .string(endian, library.dylib.name)
                .context("its load commands are damaged")?;
            libraries.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    let (major, minor) = MINIMUM_OS;
    let wanted = u32::from(major) << 16 | u32::from(minor) << 8;
    match minimum {
        Some(minimum) if minimum == wanted => {}
        Some(minimum) => bail!(
            "it needs macOS {}.{} and not {major}.{minor}",
            minimum >> 16,
            minimum >> 8 & 0xff
        ),
        None => bail!("it does not say which macOS it needs"),
    }
    for library in &libraries {
        ensure!(
            LIBRARIES.contains(&library.as_str()),
            "it needs {library}, which the list in program.rs does not have"
        );
    }
    ensure!(!libraries.is_empty(), "it is linked with nothing");
    // The kernel of these Macs kills programs without a signature; one by the program itself is
    // enough.
    ensure!(
        signed || architecture != Architecture::Aarch64,
        "it is not signed, not even by itself"
    );
    Ok(())
}
