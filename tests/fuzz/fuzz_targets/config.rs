//! Any text is a configuration or gets its errors, and a configuration that is passed to another
//! process has the same meaning there (SPEC C2, C4, C7).
//!
//! The sources carry an empty set of secrets, so no file and no variable that the input names is
//! read.
#![no_main]

use codex_network_config::{Diagnostics, Secrets, Sources, load};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let sources = Sources::none()
        .with_text("fuzz.toml", text)
        .with_secrets(Secrets::default());
    match load(&sources) {
        Err(errors) => {
            assert!(errors.error_count() > 0);
            check(&errors, text);
        }
        Ok(loaded) => {
            let captured = sources.capture().expect("no file is read");
            let carried = Sources::from_bytes(&captured.to_bytes()).expect("our own bytes");
            let again = load(&carried).expect("it was sound").settings;
            assert_eq!(again.listen, loaded.settings.listen);
            assert_eq!(again.daemon, loaded.settings.daemon);
            assert_eq!(again.mitm, loaded.settings.mitm);
        }
    }
});

/// The position of a finding is in the text, and the finding shows that line.
fn check(errors: &Diagnostics, text: &str) {
    let lines = text.split('\n').count();
    for found in errors {
        assert!(found.line as usize <= lines, "{found}");
        assert!(!found.without_content().contains(['\n', '\r']) || found.help.is_some());
        if let Some(excerpt) = &found.excerpt {
            assert!(excerpt.len > 0 && excerpt.text.chars().all(|c| !c.is_control()));
        }
    }
}
