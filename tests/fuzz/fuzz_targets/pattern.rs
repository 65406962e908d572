//! Any text is a pattern with one canonical text, or not a pattern (SPEC P2).
#![no_main]

use codex_network_policy::{ListKind, Pattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for list in [ListKind::Allow, ListKind::Deny, ListKind::ManagedAllow] {
        let Ok(pattern) = Pattern::parse(text, list) else {
            continue;
        };
        assert!(!pattern.is_everything() || list == ListKind::Allow);
        assert_eq!(Pattern::parse(&pattern.to_string(), list), Ok(pattern));
    }
});
