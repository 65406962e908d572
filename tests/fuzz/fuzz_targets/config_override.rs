//! Any text after `-c` is an assignment or gets its errors, and it sets no key but its own (SPEC
//! C1).
#![no_main]

use codex_network_config::{Secrets, Sources, load};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let sources = Sources::none()
        .with_override(text)
        .with_secrets(Secrets::default());
    match load(&sources) {
        Err(errors) => assert!(errors.error_count() > 0),
        Ok(loaded) => {
            // The assignment set everything that is set, and its value follows its `=`.
            assert!(text.contains('='));
            for (key, lines) in loaded.settings.lines.iter() {
                assert!(lines.iter().all(|line| &*line.file == "-c"), "{key}");
            }
        }
    }
});
