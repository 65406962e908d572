//! Second implementations, as slow and as plain as possible. `tests/fuzz` uses them too.

pub(crate) mod hooks;
pub(crate) mod interpreter;
