//! Rules of the tree that no compiler checks (`ARCHITECTURE.md`, "Invariants"; `CONTRIBUTING.md`).
//!
//! They read the sources as text, so they are approximate. Each says what it protects, and fails
//! with the file and line that violate it.

mod api;
mod dependencies;
mod docs;
mod floors;
mod invariants;
mod language;
mod manual;
mod needs;
mod operating;
mod packaging;
mod sources;
mod spec;
