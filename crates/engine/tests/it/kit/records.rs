//! Keeps audit events as lines of text.

use std::sync::{Arc, Mutex};

use codex_network_engine::{AuditEvent, AuditSink};

/// An audit sink that keeps one line for each event.
pub(crate) struct Records {
    lines: Mutex<Vec<String>>,
    line: fn(&AuditEvent) -> String,
}

impl Records {
    /// Keeps the line that `line` returns for each event.
    pub(crate) fn new(line: fn(&AuditEvent) -> String) -> Arc<Self> {
        let lines = Mutex::default();
        Arc::new(Self { lines, line })
    }

    /// Returns the lines that were logged since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().expect("not poisoned"))
    }
}

impl AuditSink for Records {
    fn record(&self, event: AuditEvent) {
        let line = (self.line)(&event);
        self.lines.lock().expect("not poisoned").push(line);
    }
}
