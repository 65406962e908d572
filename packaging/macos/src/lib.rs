//! Packs what a Mac is to get into an installer package (`.pkg`), on any system.
//!
//! [`contents`] is the list of everything that is installed, one line for each file. [`program`] looks
//! into the programs, so that none is packed that a Mac would not start. [`archive`] writes the package:
//! the same files make the same bytes, whoever packs them and whenever. Compiling the programs is the
//! business of `packaging/macos/build`, installing them that of `packaging/macos/scripts`.

pub mod archive;
pub mod contents;
pub mod program;
