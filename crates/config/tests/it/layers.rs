//! Where a configuration comes from and which layer wins (SPEC C1), on real files. A load gives
//! everything or nothing (SPEC C7).

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use codex_network_config::{Diagnostics, Settings, Sources, load};
use codex_network_policy::Mode;

/// A directory that stands for `/`.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("directories");
        fs::write(&path, content).expect("a file");
        path
    }

    /// The sources of an ordinary user, with `HOME` below the root.
    fn sources(&self) -> Sources {
        Sources::system_under(self.path()).with_user(self.environment())
    }

    fn environment(&self) -> impl Fn(&str) -> Option<OsString> {
        let home = self.path().join("home");
        move |name| (name == "HOME").then(|| home.clone().into_os_string())
    }

    /// Errors with the temporary directory's name taken out.
    fn messages(&self, errors: &Diagnostics) -> String {
        let root = self.path().to_str().expect("UTF-8");
        errors.to_string().replace(root, "ROOT")
    }
}

fn settings(sources: &Sources) -> Settings {
    match load(sources) {
        Ok(loaded) => loaded.settings,
        Err(errors) => panic!("{errors}"),
    }
}

fn buffer(sources: &Sources) -> usize {
    settings(sources).daemon.limits.blocked_buffer
}

fn patterns(settings: &Settings) -> Vec<String> {
    let rules = settings.policy.allowed().rules();
    rules.map(|rule| rule.pattern).collect()
}

/// Each layer beats those before it, and `-c` beats them all, the last one first.
#[test]
fn c1_later_layers_win() {
    let root = Root::new();
    let text = |n: usize| format!("[daemon.limits]\nblocked_buffer = {n}\n");
    assert_eq!(buffer(&root.sources()), 200);
    let paths = [
        "etc/codex/config.toml",
        "etc/codex-network-proxy/config.toml",
        "etc/codex-network-proxy/conf.d/10-a.toml",
        "etc/codex-network-proxy/conf.d/20-b.toml",
        "home/.codex/config.toml",
    ];
    let mut files = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        files.push(root.write(path, text(index + 1)));
        let settings = settings(&root.sources());
        assert_eq!(settings.daemon.limits.blocked_buffer, index + 1, "{path}");
        assert_eq!(settings.files, files);
    }
    // The system service does not read the user's file.
    assert_eq!(buffer(&Sources::system_under(root.path())), 4);
    let sources = root
        .sources()
        .with_override("daemon.limits.blocked_buffer=6")
        .with_override("daemon.limits.blocked_buffer = 7");
    assert_eq!(buffer(&sources), 7);
}

#[test]
fn c1_codex_home_names_the_user_layer() {
    let root = Root::new();
    root.write("home/.codex/config.toml", "[network]\nmode = \"limited\"\n");
    let other = root.write("other/config.toml", "[network]\nenabled = false\n");
    let codex_home = other.parent().expect("a directory").to_owned();
    let home = root.environment();
    let with = |codex_home: Option<OsString>| {
        Sources::none().with_user(|name| match name {
            "CODEX_HOME" => codex_home.clone(),
            name => home(name),
        })
    };
    let chosen = settings(&with(Some(codex_home.into())));
    assert!(!chosen.policy.is_enabled());
    assert_eq!(chosen.policy.mode(), Mode::Full);
    // Empty counts as unset.
    let default = settings(&with(Some(OsString::new())));
    assert_eq!(default.policy.mode(), Mode::Limited);
    let nowhere = settings(&Sources::none().with_user(|_| None));
    assert_eq!(nowhere.files, Vec::<PathBuf>::new());
}

#[test]
fn c1_drop_ins_are_read_in_name_order_and_only_toml() {
    let root = Root::new();
    let directory = "etc/codex-network-proxy/conf.d";
    // Names in byte order: `10` before `9`. Enough of them that no file system has them sorted.
    let mut names: Vec<String> = (1..40).map(|n| format!("{n}.toml")).collect();
    for name in &names {
        let content = format!("[daemon]\nuser = \"{name}\"\n");
        root.write(&format!("{directory}/{name}"), content);
    }
    names.sort();
    root.write(&format!("{directory}/99.toml.bak"), "not toml");
    root.write(&format!("{directory}/.#99.toml"), "not toml");
    let settings = settings(&root.sources());
    assert_eq!(settings.daemon.user.as_deref(), Some("9.toml"));
    let read = settings.files.iter().filter_map(|file| file.file_name());
    assert!(read.eq(names.iter().map(OsStr::new)));
}

/// `--config FILE` stands for all layers.
#[test]
fn c1_a_named_file_replaces_the_layers() {
    let root = Root::new();
    root.write("etc/codex/config.toml", "[network]\nmode = \"limited\"\n");
    let named = root.write("proxy.toml", "[network]\nenabled = false\n");
    let settings = settings(&Sources::file(&named));
    assert_eq!(settings.policy.mode(), Mode::Full);
    assert!(!settings.policy.is_enabled());
    assert_eq!(settings.files, [named]);
}

/// Tables merge, scalars and arrays replace.
#[test]
fn c1_tables_merge_and_arrays_replace() {
    let lower = "[network]\nenabled = false\nmode = \"limited\"\nallowed_domains = [\"a.example\", \"b.example\"]\n";
    let upper = "[network]\nmode = \"full\"\nallowed_domains = [\"c.example\"]\n";
    let merged = settings(&Sources::none().with_text("l", lower).with_text("u", upper));
    assert!(!merged.policy.is_enabled());
    assert_eq!(merged.policy.mode(), Mode::Full);
    assert_eq!(patterns(&merged), ["c.example"]);

    let lower = "default_permissions = \"p\"\n[permissions.p.network.domains]\n\"a.example\" = \"allow\"\n\"b.example\" = \"allow\"\n\"c.example\" = \"deny\"\n";
    let upper = "[permissions.p.network.domains]\n\"b.example\" = \"deny\"\n\"c.example\" = \"allow\"\n\"d.example\" = \"allow\"\n";
    let merged = settings(&Sources::none().with_text("l", lower).with_text("u", upper));
    assert_eq!(patterns(&merged), ["a.example", "c.example", "d.example"]);
    let denied: Vec<String> = merged
        .policy
        .denied()
        .rules()
        .map(|rule| rule.to_string())
        .collect();
    assert_eq!(denied, ["b.example (u:2)"]);

    // A table over a scalar and the other way round.
    let sources = Sources::none()
        .with_text("l", "[network]\nmitm = false\n")
        .with_text("u", "[network.mitm]\ninspect = true\n");
    assert!(settings(&sources).mitm.inspect);
    assert!(
        !settings(&sources.with_override("network.mitm=true"))
            .mitm
            .inspect
    );
}

/// One setting has two places in the first dialect. The later layer wins in either place.
#[test]
fn c1_a_later_layer_wins_in_either_place() {
    let at_top = "[network_proxy]\nallow_local_binding = true\n";
    let in_policy = "[network_proxy.policy]\nallow_local_binding = false\n";
    let local = |first, second| {
        let sources = Sources::none().with_text("1", first).with_text("2", second);
        settings(&sources).policy.allows_local_binding()
    };
    assert!(!local(at_top, in_policy));
    assert!(local(in_policy, at_top));
}

/// SPEC C1: `-c dotted.key=value`: TOML, else a string; the key may hold quoted parts.
#[test]
fn c1_overrides_are_toml_or_strings() {
    let with = |assignment: &str| settings(&Sources::none().with_override(assignment));
    for assignment in [
        "network.mode=limited",
        "network.mode=\"limited\"",
        "network.mode = 'limited'",
        "network.\"mode\"=limited",
        "'network' . mode=limited",
        "network={mode='limited'}",
    ] {
        assert_eq!(
            with(assignment).policy.mode(),
            Mode::Limited,
            "{assignment}"
        );
    }
    assert!(!with("network.enabled=false").policy.is_enabled());
    assert_eq!(
        patterns(&with(
            "network.allowed_domains=[\"a.example\", '*.b.example']"
        )),
        ["a.example", "*.b.example"]
    );
    // A value may hold `=`; a quoted part of the key too, and dots.
    assert_eq!(with("daemon.log=a=b").daemon.log, "a=b");
    let map = Sources::none()
        .with_override("default_permissions=\"x=1.5\"")
        .with_override("permissions.\"x=1.5\".network.domains.\"a.example\"=allow");
    let loaded = settings(&map);
    assert_eq!(patterns(&loaded), ["a.example"]);
    let rule = loaded.policy.allowed().rules().next().expect("one rule");
    assert_eq!(rule.to_string(), "a.example (-c:1)");
    let quotes = r#"permissions."a\"=b".network.enabled=false"#;
    let sources = Sources::none()
        .with_override(r#"default_permissions='a"=b'"#)
        .with_override(quotes);
    assert!(!settings(&sources).policy.is_enabled());
    // The file's other keys stay.
    let sources = Sources::none()
        .with_text("f", "[network]\nenabled = false\n")
        .with_override("network.mode=limited");
    assert!(!settings(&sources).policy.is_enabled());
}

/// SPEC C2: relative to the file that says so; with `-c` to the working directory.
#[test]
fn c2_relative_paths_start_from_their_file() {
    let root = Root::new();
    let paths = "[network.mitm]\nca_cert_path = \"ca.pem\"\nca_key_path = \"/abs/ca.key\"\n[daemon]\nstate_dir = \"state\"\n";
    let file = root.write("etc/codex-network-proxy/conf.d/1.toml", paths);
    let read = settings(&root.sources());
    let ca = read.mitm.ca_paths.expect("two files");
    assert_eq!(ca.certificate, file.with_file_name("ca.pem"));
    assert_eq!(ca.key, Path::new("/abs/ca.key"));
    assert_eq!(read.daemon.state_dir, Some(file.with_file_name("state")));
    let sources = root.sources().with_override("daemon.state_dir=here");
    assert_eq!(settings(&sources).daemon.state_dir, Some("here".into()));
}

#[test]
fn c4_files_that_cannot_be_read_are_named() {
    let root = Root::new();
    fs::create_dir_all(root.path().join("etc/codex/config.toml")).expect("a directory");
    root.write(
        "etc/codex-network-proxy/config.toml",
        b"[network]\n# caf\xe9\n",
    );
    root.write("etc/codex-network-proxy/conf.d/1.toml", "[network\n");
    root.write(
        "etc/codex-network-proxy/conf.d/2.toml",
        "[network]\nmode = \"odd\"\n",
    );
    #[cfg(unix)]
    std::os::unix::fs::symlink(
        "nowhere",
        root.path().join("etc/codex-network-proxy/conf.d/3.toml"),
    )
    .expect("a link");
    let errors = load(&root.sources()).expect_err("four bad files");
    insta::assert_snapshot!(root.messages(&errors));
    let missing = load(&Sources::file(root.path().join("missing.toml"))).expect_err("no file");
    insta::assert_snapshot!(root.messages(&missing), @"
    error: ROOT/missing.toml: cannot be read: No such file or directory (os error 2)
      help: is the path right? Without a file the built-in defaults and the system's files are used
    ");
}

/// The target of a link may be missing for a while, but its denials and requirements must not be
/// lost.
#[cfg(unix)]
#[test]
fn c6_a_dangling_link_is_not_a_missing_file() {
    use std::os::unix::fs::symlink;

    for place in [
        "etc/codex",
        "etc/codex/config.toml",
        "etc/codex/requirements.toml",
        "etc/codex-network-proxy/requirements.toml",
        "etc/codex-network-proxy/conf.d",
        "home/.codex/config.toml",
    ] {
        let root = Root::new();
        assert!(load(&root.sources()).is_ok(), "nothing is there");
        let link = root.path().join(place);
        fs::create_dir_all(link.parent().expect("a folder")).expect("a folder");
        symlink(root.path().join("nowhere"), &link).expect("a link");
        let errors = load(&root.sources()).expect_err(place);
        let messages = root.messages(&errors);
        assert!(
            messages.contains(&format!("ROOT/{place}"))
                && messages.contains("cannot be read: it is a link to a file that does not exist"),
            "{messages}"
        );
        fs::create_dir_all(root.path().join("elsewhere")).expect("a folder");
        fs::remove_file(&link).expect("it is there");
        if link.extension().is_none() {
            symlink(root.path().join("elsewhere"), &link).expect("a link");
            assert!(load(&root.sources()).is_ok(), "{place} leads somewhere");
        }
    }
}

#[test]
fn c4_a_file_over_64_mib_is_refused_unread() {
    let root = Root::new();
    let path = root.path().join("big.toml");
    let file = fs::File::create(&path).expect("a file");
    file.set_len((64 << 20) + 1).expect("a sparse file");
    let errors = load(&Sources::file(&path)).expect_err("too large");
    assert_eq!(
        root.messages(&errors),
        "error: ROOT/big.toml: is larger than 64 MiB"
    );
}

/// A pipe without a writer must not hang a start that did not name it.
#[cfg(target_os = "linux")]
#[test]
fn c4_a_layer_that_is_not_a_file_is_refused() {
    let root = Root::new();
    fs::create_dir_all(root.path().join("etc/codex")).expect("a directory");
    std::os::unix::fs::symlink("/dev/null", root.path().join("etc/codex/config.toml"))
        .expect("a link");
    let errors = load(&root.sources()).expect_err("a device");
    assert_eq!(
        root.messages(&errors),
        "error: ROOT/etc/codex/config.toml: cannot be read: it is neither a regular file nor a pipe"
    );
}

/// SPEC C7: one error anywhere and there are no settings, but the errors of every file are
/// reported.
#[test]
fn c7_one_error_anywhere_and_nothing_is_loaded() {
    let root = Root::new();
    root.write("etc/codex/config.toml", "[network]\nmode = \"odd\"\n");
    root.write(
        "home/.codex/config.toml",
        "[network]\nenabled = 5\n[daemon]\nx = 1\n",
    );
    let sources = root.sources().with_override("network.proxy_url=1");
    let errors = load(&sources).expect_err("four errors");
    let places: Vec<String> = errors
        .iter()
        .map(|found| {
            format!(
                "{}:{}",
                found
                    .source
                    .replace(root.path().to_str().expect("UTF-8"), ""),
                found.line
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            "/etc/codex/config.toml:2",
            "/home/.codex/config.toml:2",
            "/home/.codex/config.toml:4",
            "-c:1"
        ]
    );
}
