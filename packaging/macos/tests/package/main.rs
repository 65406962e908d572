//! The package as a Mac would see it: made from small stand-ins for the programs, and read back by
//! readers that share no code with the writer.

mod bom;
#[cfg(feature = "built")]
mod built;
mod contents;
mod cpio;
mod programs;
mod scene;
mod scripts;
mod xar;
