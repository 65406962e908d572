//! Any bytes give a result, in bounded time and memory, and never a panic (SPEC C4).

use std::fmt::Write as _;
use std::sync::LazyLock;

use codex_network_config::{Sources, load};
use proptest::prelude::*;

/// Words that lead deep into the code when they meet by chance.
const WORDS: &[&str] = &[
    "network",
    "network_proxy",
    "policy",
    "permissions",
    "default_permissions",
    "p",
    "domains",
    "unix_sockets",
    "mitm",
    "hooks",
    "actions",
    "daemon",
    "limits",
    "resolver",
    "control",
    "admin",
    "enabled",
    "mode",
    "proxy_url",
    "allowed_domains",
    "denied_domains",
    "host",
    "query",
    "headers",
    "action",
    "methods",
    "path_prefixes",
    "inject_request_headers",
    "secret_env_var",
    "secret_file",
    "prefix",
    "\"pattern:/a/*\"",
    "\"GET\"",
    "idle_timeout",
    "nameservers",
    "max_connections",
    "\"limited\"",
    "\"allow\"",
    "\"deny\"",
    "\"*\"",
    "\"a.example\"",
    "\"1h\"",
    "\"/run/x\"",
    "true",
    "5",
    "-1",
    "0x10",
    "1.5",
    "inf",
    "1979-05-27",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\r\n",
    "\t",
    " ",
    "#",
    "\"",
    "'",
    "\"\"\"",
    "\\",
    "\\u0000",
    "é",
    "\u{202e}",
    "\0",
];

/// The full example, with secret files that are there.
static FULL: LazyLock<(String, tempfile::TempDir)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("key");
    std::fs::write(&file, "sesame").expect("written");
    let path = file.to_str().expect("UTF-8");
    let text = include_str!("full.toml").replace("/etc/secrets/key", path);
    let text = crate::telemetry::with_files(&text, directory.path());
    answers_well(&text);
    (text, directory)
});

fn sources(text: &str) -> Sources {
    Sources::none()
        .with_text("config.toml", text)
        .with_environment(|name| (name == "API_TOKEN").then(|| "hunter2".into()))
}

fn answers_well(text: &str) {
    if let Err(errors) = load(&sources(text)) {
        panic!("{errors}");
    }
}

fn answers(text: &str) {
    let sources = sources(text);
    match load(&sources) {
        Ok(loaded) => {
            let findings = loaded.warnings.iter().chain(&loaded.notes);
            findings.for_each(|found| drop(found.to_string()));
        }
        Err(errors) => {
            assert!(errors.error_count() > 0);
            assert!(!errors.one_line().is_empty());
            let messages = errors.to_string();
            assert!(
                messages.chars().all(|c| c == '\n' || !c.is_control()),
                "{messages:?}"
            );
            for line in messages.lines() {
                assert!(line.chars().count() < 2000, "a line of {}", line.len());
            }
        }
    }
}

proptest! {
    #[test]
    fn c4_any_text_loads_or_is_an_error(text in ".{0,200}") {
        answers(&text);
    }

    #[test]
    fn c4_any_words_load_or_are_an_error(words in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
        answers(&words.concat());
        answers(&words.join(" "));
    }

    #[test]
    fn c4_any_override_loads_or_is_an_error(words in prop::collection::vec(prop::sample::select(WORDS), 0..12)) {
        let assignment = words.concat();
        let _ = load(&Sources::none().with_override(&*assignment)).map_err(|e| e.to_string());
    }

    #[test]
    fn c4_any_layers_load_or_are_an_error(
        lower in prop::collection::vec(prop::sample::select(WORDS), 0..20),
        upper in prop::collection::vec(prop::sample::select(WORDS), 0..20),
    ) {
        let sources = Sources::none()
            .with_text("lower", lower.concat())
            .with_text("upper", upper.concat());
        let _ = load(&sources).map_err(|e| e.to_string());
    }

    /// Any value of any type for any key.
    #[test]
    fn c4_any_value_for_any_key_loads_or_is_an_error(line in 0_usize..80, value in "[ -~é\u{202e}\t]{0,20}") {
        let full = &FULL.0;
        let changed: Vec<String> = full
            .lines()
            .enumerate()
            .map(|(at, text)| match text.split_once(" = ") {
                Some((key, _)) if at == line => format!("{key} = {value}"),
                _ => text.to_owned(),
            })
            .collect();
        answers(&changed.join("\n"));
    }

    #[test]
    fn c4_any_bytes_in_a_file_load_or_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &bytes).expect("written");
        let _ = load(&Sources::file(file.path())).map_err(|e| e.to_string());
    }
}

/// A file that is being written, or was cut off.
#[test]
fn c4_every_prefix_of_the_full_example_loads_or_is_an_error() {
    let full = &FULL.0;
    for (end, _) in full.char_indices() {
        answers(&full[..end]);
    }
    // And with a character taken out.
    for (at, character) in full.char_indices() {
        let rest = &full[at + character.len_utf8()..];
        answers(&format!("{}{rest}", &full[..at]));
    }
}

/// Texts that could exhaust the stack or the memory.
#[test]
fn c4_deep_and_long_texts_load_or_are_errors() {
    let n = 100_000;
    answers(&format!("{}a = 1", "a.".repeat(n)));
    answers(&format!("[{}a]", "a.".repeat(n)));
    answers(&format!("x = {}", "[".repeat(n)));
    answers(&format!("x = {}1{}", "[".repeat(n), "]".repeat(n)));
    answers(&format!("x = {}", "{a=".repeat(n)));
    answers(&"[[a]]\n".repeat(n));
    answers(&"[".repeat(n));
    answers(&"=".repeat(n));
    answers(&"\n".repeat(n));
    answers(&"\"".repeat(n));
    answers(&format!("[network]\nmode = \"{}\"", "é\u{1}".repeat(n)));
    answers(&format!("[network]\n{} = 1", "k".repeat(n)));
    answers(&format!(
        "[network]\nallowed_domains = [\"{}\"]",
        "a.".repeat(n)
    ));
    answers(&format!("[network]\nproxy_url = \"{}\"", "[".repeat(n)));
    answers(&format!(
        "[daemon.limits]\nidle_timeout = \"{}\"",
        "1s".repeat(n)
    ));
    answers(&format!("default_permissions = \"{}\"", "p".repeat(n)));
    // As deep as the parser permits, and deeper than any stack should go.
    let path = "a.".repeat(70);
    let mut deep = format!("[network.{path}b]\n");
    for _ in 0..78 {
        let _ = write!(deep, "{path}b = {{ ");
    }
    deep.push_str("x = 1");
    deep.push_str(&" }".repeat(78));
    answers(&deep);
    answers(&deep[..deep.len() - 1]);
    answers(&format!("{deep}\nx y"));
}

/// List sizes that people import: a million patterns, and a million bad ones, in one file.
#[test]
fn c4_a_million_patterns_load() {
    let n = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let mut good = String::from("[network]\nallowed_domains = [\n");
    for index in 0..n {
        let _ = writeln!(good, "  \"host-{index}.example.com\",");
    }
    good.push_str("]\n");
    let loaded = load(&Sources::none().with_text("config.toml", &*good)).expect("all are good");
    assert_eq!(loaded.settings.policy.allowed().len(), n);
    let bad = good.replace(".com", "/com");
    let errors = load(&Sources::none().with_text("config.toml", bad)).expect_err("all are bad");
    assert_eq!(errors.error_count(), n);
    assert!(errors.to_string().len() < 100_000);
    // All in one line: columns are far to the right, excerpts stay short.
    let line = good
        .replace('\n', " ")
        .replacen("] ", "]\n", 1)
        .replacen(' ', "\n", 1);
    answers(&line.replace(".com", "/com"));
}
