//! Secrets that actions inject: where they come from, how they are passed on, and that nothing
//! shows them (SPEC M9, B4).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use codex_network_config::{Diagnostics, HeaderNameText, Loaded, Settings, Sources, load};

const VALUE: &str = "hunter2-correct-horse";

/// A configuration that injects one secret.
fn with_source(source: &str) -> String {
    format!(
        "[[network.mitm.actions.a.inject_request_headers]]\nname = \"authorization\"\nprefix = \"Bearer \"\n{source}\n"
    )
}

/// A variable with the secret in it.
fn from_variable(value: impl Into<OsString>) -> Sources {
    let value = value.into();
    Sources::none()
        .with_text("config.toml", with_source("secret_env_var = \"TOKEN\""))
        .with_environment(move |name| (name == "TOKEN").then(|| value.clone()))
}

/// A file with the secret in it.
struct SecretFile {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl SecretFile {
    fn new(content: impl AsRef<[u8]>, mode: u32) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("token");
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        Self {
            _directory: directory,
            path,
        }
    }

    fn sources(&self) -> Sources {
        let source = format!("secret_file = \"{}\"", self.path.display());
        Sources::none().with_text("config.toml", with_source(&source))
    }

    fn messages(&self, errors: &Diagnostics) -> String {
        let path = self.path.to_str().expect("UTF-8");
        errors.one_line().replace(path, "FILE")
    }
}

#[track_caller]
fn loaded(sources: &Sources) -> Loaded {
    match load(sources) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{errors}"),
    }
}

fn injected(settings: &Settings) -> Vec<Vec<u8>> {
    let actions = settings.mitm.actions.iter();
    let values = actions.flat_map(|(_, action)| &action.inject);
    values.map(|one| one.value.expose().to_vec()).collect()
}

#[test]
fn m9_a_secret_comes_from_a_variable_with_its_prefix() {
    let settings = loaded(&from_variable(VALUE)).settings;
    assert_eq!(
        injected(&settings),
        [format!("Bearer {VALUE}").into_bytes()]
    );
}

#[test]
fn m9_a_secret_comes_from_a_file_without_its_last_line_end() {
    for end in ["", "\n", "\r\n"] {
        let file = SecretFile::new(format!("{VALUE}{end}"), 0o600);
        let loaded = loaded(&file.sources());
        assert_eq!(
            injected(&loaded.settings),
            [format!("Bearer {VALUE}").into_bytes()]
        );
        let findings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{findings:?}");
    }
}

#[test]
fn m9_a_secret_is_read_anew_at_each_load() {
    let file = SecretFile::new("one", 0o600);
    assert_eq!(injected(&loaded(&file.sources()).settings), [b"Bearer one"]);
    fs::write(&file.path, "another").expect("written");
    assert_eq!(
        injected(&loaded(&file.sources()).settings),
        [b"Bearer another"]
    );
}

/// A value that a field cannot have, or an empty one, and the message.
#[test]
fn m9_a_secret_that_cannot_be_a_field_value_is_refused() {
    for bad in [
        "a\nb",
        "a\r\nb\n",
        "\n\n",
        "a\0b",
        "a\tb",
        "pass\u{e9}",
        " lead",
        "trail ",
        "\u{7f}",
    ] {
        let file = SecretFile::new(bad, 0o600);
        for sources in [from_variable(bad.replace('\0', "\u{1}")), file.sources()] {
            let messages = load(&sources).expect_err(bad).to_string();
            assert!(
                messages.contains("so it cannot be a header's value"),
                "{messages}"
            );
            assert!(messages.contains("config.toml:4:"), "{messages}");
            assert!(
                !messages.contains(bad.trim()) || bad.trim().is_empty(),
                "{messages}"
            );
        }
    }
    let not_text = from_variable(OsString::from_vec(vec![b'a', 0xff]));
    load(&not_text).expect_err("no field value");
}

#[test]
fn m9_an_empty_secret_is_refused() {
    let messages = load(&from_variable("")).expect_err("empty").one_line();
    assert!(
        messages.contains("the environment variable `TOKEN` is empty"),
        "{messages}"
    );
    for content in ["", "\n", "\r\n"] {
        let file = SecretFile::new(content, 0o600);
        let messages = file.messages(&load(&file.sources()).expect_err("empty"));
        assert!(
            messages.contains("the secret file `FILE` is empty"),
            "{messages}"
        );
    }
}

#[test]
fn m9_a_secret_file_is_a_regular_file_of_bounded_size() {
    let file = SecretFile::new("x".repeat((64 << 10) + 1), 0o600);
    let messages = file.messages(&load(&file.sources()).expect_err("too large"));
    assert!(messages.contains("is larger than 64 KiB"), "{messages}");
    assert!(!messages.contains("xxx"), "{messages}");
    fs::write(&file.path, "x".repeat(64 << 10)).expect("written");
    loaded(&file.sources());

    for special in ["/dev/null", "/"] {
        let source = format!("secret_file = {special:?}");
        let sources = Sources::none().with_text("config.toml", with_source(&source));
        let messages = load(&sources).expect_err(special).one_line();
        assert!(messages.contains("is not a regular file"), "{messages}");
    }
}

/// Missing secrets are reported with their places, all at once.
#[test]
fn m9_c4_all_missing_secrets_are_reported_at_once() {
    let text = with_source("secret_env_var = \"ONE\"")
        + &with_source("secret_env_var = \"TWO\"").replace("actions.a", "actions.b")
        + &with_source("secret_file = \"/nowhere/three\"").replace("actions.a", "actions.c")
        + "[network.mitm.hooks.h]\nhost = \"*\"\n";
    let sources = Sources::none()
        .with_text("config.toml", text)
        .with_environment(|_| None);
    let errors = load(&sources).expect_err("nothing is there");
    let lines: Vec<u32> = errors.iter().map(|found| found.line).collect();
    // The hook: no methods, no prefixes, a bad host.
    assert_eq!(lines, [4, 8, 12, 13, 13, 14]);
    let messages = errors.to_string();
    assert!(
        messages.contains("the environment variable `ONE` is not set"),
        "{messages}"
    );
    assert!(
        messages.contains("the environment variable `TWO` is not set"),
        "{messages}"
    );
    assert!(
        messages.contains("the secret file `/nowhere/three` cannot be read: No such file"),
        "{messages}"
    );
}

#[test]
fn m9_a_secret_file_that_others_may_read_is_a_warning() {
    for (mode, warned) in [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1), (0o644, 1)] {
        let file = SecretFile::new(VALUE, mode);
        let captured = file.sources().capture().expect("in memory");
        let here = loaded(&captured);
        assert_eq!(here.warnings.len(), warned, "{mode:o}");
        // A process that gets them as bytes warns too: that is where warnings are logged.
        let bytes = captured.with_secrets(here.secrets).to_bytes();
        let there = loaded(&Sources::from_bytes(&bytes).expect("just written"));
        assert_eq!(there.warnings, here.warnings);
    }
}

/// The worker gets bytes: it may open no file and has no environment (`ARCHITECTURE.md`, "Three
/// roles, one program").
#[test]
fn c7_m9_secrets_travel_with_the_captured_configuration() {
    let file = SecretFile::new(format!("{VALUE}-2\n"), 0o600);
    let text = with_source("secret_env_var = \"TOKEN\"")
        + &with_source(&format!("secret_file = \"{}\"", file.path.display()))
            .replace("actions.a", "actions.b");
    let lookups = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&lookups);
    let captured = Sources::none()
        .with_text("config.toml", text)
        .with_environment(move |name| {
            counter.fetch_add(1, Ordering::Relaxed);
            assert_eq!(name, "TOKEN", "only what is named is looked at");
            Some(VALUE.into())
        })
        .capture()
        .expect("in memory");
    let here = loaded(&captured);
    assert_eq!(here.secrets.len(), 2);
    let captured = captured.with_secrets(here.secrets);
    let bytes = captured.to_bytes();
    fs::remove_file(&file.path).expect("it is ours");
    let there = loaded(&Sources::from_bytes(&bytes).expect("just written"));
    assert_eq!(there.settings.mitm, here.settings.mitm);
    assert_eq!(injected(&there.settings).len(), 2);
    assert_eq!(
        lookups.load(Ordering::Relaxed),
        1,
        "read once, and not again"
    );
}

/// A process that was handed its configuration reads neither its environment nor a file, even where
/// it could.
#[test]
fn c7_m9_a_secret_that_was_not_captured_is_not_searched() {
    let file = SecretFile::new(VALUE, 0o600);
    for source in [
        "secret_env_var = \"PATH\"".to_owned(),
        format!("secret_file = \"{}\"", file.path.display()),
    ] {
        let sources = Sources::none().with_text("config.toml", with_source(&source));
        loaded(&sources);
        let carried = Sources::from_bytes(&sources.to_bytes()).expect("just written");
        // A text layer is passed as it is; its secret was never read.
        let messages = load(&carried).expect_err("no secret").to_string();
        assert!(messages.contains("was not captured with"), "{messages}");
    }
}

#[test]
fn c7_truncated_secrets_are_an_error() {
    let captured = from_variable(VALUE);
    let secrets = loaded(&captured).secrets;
    let bytes = captured.with_secrets(secrets).to_bytes();
    let whole = (0..bytes.len()).filter(|end| Sources::from_bytes(&bytes[..*end]).is_ok());
    // Nothing, and the text without the secret.
    assert_eq!(whole.count(), 2);
}

/// SPEC B4: no printed form of a configuration shows the secret. The only exit is the bytes that
/// are passed to the worker.
#[test]
fn b4_no_debug_text_and_no_message_shows_a_secret() {
    let file = SecretFile::new(VALUE, 0o644);
    let text = format!(
        "{}secret_env_var = \"TOKEN\"\n{}",
        with_source(&format!("secret_file = \"{}\"", file.path.display())),
        with_source("secret_env_var = \"TOKEN\"").replace("actions.a", "actions.b"),
    )
    .replacen("secret_env_var = \"TOKEN\"\n", "", 1);
    let sources = Sources::none()
        .with_text("config.toml", text)
        .with_environment(|_| Some(VALUE.into()))
        .capture()
        .expect("in memory");
    let loaded = loaded(&sources);
    assert_eq!(injected(&loaded.settings).len(), 2);
    let carried = sources.clone().with_secrets(loaded.secrets.clone());
    let read = Sources::from_bytes(&carried.to_bytes()).expect("just written");
    // As bytes too: `Debug` of a vector is a list of numbers.
    let numbers = format!("{:?}", VALUE.as_bytes());
    let numbers = numbers.trim_matches(['[', ']']);
    for printed in [
        format!("{loaded:?}"),
        format!("{loaded:#?}"),
        format!("{:?}", loaded.settings.mitm.actions),
        format!("{:?}", loaded.secrets),
        format!("{sources:?}"),
        format!("{carried:#?}"),
        format!("{read:?}"),
        format!("{:?}", load(&read)),
        loaded.warnings.iter().map(ToString::to_string).collect(),
    ] {
        assert!(!printed.contains(VALUE), "{printed}");
        assert!(!printed.contains(numbers), "{printed}");
        assert!(
            !printed
                .replace([' ', '\n'], "")
                .contains(&numbers.replace(' ', ""))
        );
    }
    let findings = format!("{:?}", loaded.settings.mitm.actions);
    assert!(findings.contains("Secret(…)"), "{findings}");
    let bytes = carried.to_bytes();
    assert!(
        bytes
            .windows(VALUE.len())
            .any(|part| part == VALUE.as_bytes())
    );
    let without = sources.to_bytes();
    assert!(
        !without
            .windows(VALUE.len())
            .any(|part| part == VALUE.as_bytes())
    );
}

/// Two layers: hooks are tried in the order of the files, weaker layers first. One that a later
/// layer mentions takes the position that it has there.
#[test]
fn m9_hooks_are_tried_in_the_order_of_the_files() {
    let hook = |name: &str, host: &str| {
        format!(
            "[network.mitm.hooks.{name}]\nhost = {host:?}\nmethods = [\"GET\"]\npath_prefixes = [\"/\"]\naction = [\"{name}\"]\n[network.mitm.actions.{name}]\nstrip_request_headers = [\"x-{name}\"]\n"
        )
    };
    let lower = hook("z", "a.example") + &hook("b", "a.example") + &hook("m", "a.example");
    let upper = hook("c", "a.example") + "[network.mitm.hooks.b]\nmethods = [\"POST\"]\n";
    let order = |sources: Sources| -> Vec<(String, String)> {
        let mitm = loaded(&sources).settings.mitm;
        let hooks = mitm.hooks.iter().map(|(id, hook)| {
            let (name, action) = mitm.actions.named_of(id).next().expect("one action");
            assert_eq!(name, hook.name);
            (hook.name.clone(), action.strip[0].to_string())
        });
        hooks.collect()
    };
    let names =
        |sources| -> Vec<String> { order(sources).into_iter().map(|(name, _)| name).collect() };
    let one = Sources::none().with_text("lower", lower);
    assert_eq!(names(one.clone()), ["z", "b", "m"]);
    let two = one.with_text("upper", upper);
    assert_eq!(names(two.clone()), ["z", "m", "c", "b"]);
    assert_eq!(order(two)[3].1, "x-b", "each hook keeps its own action");
}

#[test]
fn m9_a_hook_applies_its_actions_in_the_order_of_its_list() {
    let text = "[network.mitm.hooks.h]\nhost = \"a.example\"\nmethods = [\"GET\"]\npath_prefixes = [\"/\"]\naction = [\"two\", \"one\"]\n[network.mitm.actions.one]\nstrip_request_headers = [\"x-one\"]\n[network.mitm.actions.two]\nstrip_request_headers = [\"x-two\", \"x-three\"]\n";
    let mitm = loaded(&Sources::none().with_text("config.toml", text))
        .settings
        .mitm;
    let (id, _) = mitm.hooks.iter().next().expect("one hook");
    let names: Vec<&str> = mitm.actions.named_of(id).map(|(name, _)| name).collect();
    assert_eq!(names, ["two", "one"]);
    let stripped = mitm.actions.of(id).flat_map(|action| &action.strip);
    let stripped: Vec<&str> = stripped.map(HeaderNameText::as_str).collect();
    assert_eq!(stripped, ["x-two", "x-three", "x-one"]);
}

/// A hook without actions permits the requests that it covers, and no others to its host.
#[test]
fn m9_a_hook_needs_no_action() {
    let text = "[network.mitm.hooks.h]\nhost = \"a.example\"\nmethods = [\"GET\"]\npath_prefixes = [\"/\"]\n";
    let mitm = loaded(&Sources::none().with_text("config.toml", text))
        .settings
        .mitm;
    let (id, _) = mitm.hooks.iter().next().expect("one hook");
    assert_eq!(mitm.actions.of(id).count(), 0);
}

/// The fields that the proxy never adds (H3), that frame a message, or that would change what was
/// judged.
#[test]
fn h3_m9_no_action_injects_what_the_proxy_never_adds() {
    for name in [
        "via",
        "Forwarded",
        "x-forwarded-for",
        "X_Forwarded_Host",
        "x-forwarded-anything",
        "x-real-ip",
        "transfer-encoding",
        "content.length",
        "keep-alive",
        "proxy-anything",
        "x.http.method.override",
        "x-original-url",
        "x-script-name",
        "proxy",
        "x-proxy-error",
    ] {
        let text = with_source("secret_env_var = \"TOKEN\"").replace("authorization", name);
        let sources = Sources::none()
            .with_text("config.toml", text)
            .with_environment(|name| (name == "TOKEN").then(|| VALUE.into()));
        let findings = load(&sources).expect_err(name).one_line();
        assert!(
            findings.contains("cannot be injected"),
            "{name}: {findings}"
        );
    }
}
