//! Packs the files for a Mac into an installer package (`.pkg`), on any system.
//!
//! [`contents`] is the list of all installed files, one line for each. [`program`] checks the
//! programs, so that none is packed that a Mac would not start. [`archive`] writes the package: the
//! same files give the same bytes, on every machine and at any time. `packaging/macos/build`
//! compiles the programs, and `packaging/macos/scripts` install them.

pub mod archive;
pub mod contents;
pub mod program;
