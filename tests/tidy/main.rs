//! Rules of the tree that no compiler checks (DESIGN section 8, STYLE).
//!
//! They read the sources as text, so they are rough; each says what it protects, and fails with the
//! file and line that broke it.

mod api;
mod dependencies;
mod docs;
mod invariants;
mod manual;
mod needs;
mod packaging;
mod sources;
mod spec;
