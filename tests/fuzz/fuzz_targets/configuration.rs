//! Any text is a configuration or has a problem with a place, alone and as requirements, and what
//! travels to the worker means the same there (SPEC C1, C4, C6, C7).
//!
//! Lines of `---` divide the input: the configuration, the requirements, one `-c` override.
#![no_main]

use codex_network_config::{Sources, load};
use libfuzzer_sys::fuzz_target;

/// The value of every variable that a configuration names. No message shows it (SPEC B4).
const SECRET: &str = "kT9vXq2LmZ7rWb4N";

fuzz_target!(|text: &str| {
    if text.contains(SECRET) || text.contains("secret_file") {
        return;
    }
    let mut parts = text.splitn(3, "\n---\n");
    let mut sources = Sources::none();
    let configuration = parts.next().unwrap_or_default();
    if let Some(requirements) = parts.next() {
        sources = with_requirements(requirements);
    }
    sources = sources
        .with_text("fuzz.toml", configuration)
        .with_environment(|_| Some(SECRET.into()));
    if let Some(assignment) = parts.next() {
        sources = sources.with_override(assignment);
    }
    let loaded = match load(&sources) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            let shown = diagnostics.to_string();
            assert!(!shown.trim().is_empty(), "no problem is told");
            assert!(!shown.contains(SECRET), "{shown}");
            return;
        }
    };
    assert!(!format!("{:?}", loaded.settings).contains(SECRET));

    let carried = sources.with_secrets(loaded.secrets.clone()).to_bytes();
    let carried = Sources::from_bytes(&carried).expect("what is written is read");
    let again = load(&carried).expect("the worker reads the same text");
    let lists = |settings: &codex_network_config::Settings| {
        let texts = |list: &[_]| format!("{list:?}");
        (texts(settings.policy.allowed()), texts(settings.policy.denied()))
    };
    assert_eq!(lists(&loaded.settings), lists(&again.settings));
});

/// Requirements that are held in memory: only captured sources have those.
fn with_requirements(text: &str) -> Sources {
    let mut bytes = vec![b'r'];
    for field in ["requirements.toml", text] {
        bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
        bytes.extend_from_slice(field.as_bytes());
    }
    Sources::from_bytes(&bytes).expect("one part")
}
