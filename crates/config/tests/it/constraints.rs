//! Managed constraints (SPEC C6): a configuration may narrow `requirements.toml` and never widen
//! it, in any layer.

mod bypass;
mod report;

use std::fs;
use std::path::Path;

use codex_network_config::{Loaded, Settings, Sources, load};
use codex_network_policy::{
    DomainSet, Facts, Host, HostCredentials, InterceptionSupport, Mode, NoLocalAddresses,
    NoProxyListeners, Reason, Request, RequestKind,
};

const CODEX: &str = "etc/codex/requirements.toml";
const OWN: &str = "etc/codex-network-proxy/requirements.toml";

/// A directory that stands for `/`.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// With this table in one file.
    fn requiring(table: &str) -> Self {
        let root = Self::new();
        root.require(CODEX, table);
        root
    }

    fn require(&self, path: &str, table: &str) {
        self.write(path, &format!("[experimental_network]\n{table}\n"));
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("directories");
        fs::write(path, content).expect("a file");
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A configuration in memory, under the requirements of this root.
    fn sources(&self, text: &str) -> Sources {
        Sources::none()
            .with_text("user.toml", text)
            .with_requirements_under(self.path())
    }

    fn loaded(&self, text: &str) -> Loaded {
        load(&self.sources(text)).unwrap_or_else(|errors| panic!("{text}: {errors}"))
    }

    fn settings(&self, network: &str) -> Settings {
        self.loaded(&format!("[network]\n{network}\n")).settings
    }

    /// All messages, with the temporary directory's name replaced.
    fn messages(&self, sources: &Sources) -> String {
        let messages = match load(sources) {
            Err(errors) => errors.to_string(),
            Ok(loaded) => {
                let findings = loaded.warnings.iter().chain(&loaded.notes);
                let lines: Vec<String> = findings.map(ToString::to_string).collect();
                lines.join("\n")
            }
        };
        messages.replace(self.path().to_str().expect("UTF-8"), "ROOT")
    }
}

fn rules(set: &DomainSet) -> Vec<String> {
    set.rules().map(|rule| rule.pattern).collect()
}

/// A setting with a requirement and a configuration that is silent, equal, stricter, looser.
struct Bounded {
    key: &'static str,
    effective: fn(&Settings) -> bool,
    default: bool,
}

const BOUNDED: &[Bounded] = &[
    Bounded {
        key: "enabled",
        effective: |settings| settings.policy.is_enabled(),
        default: true,
    },
    Bounded {
        key: "allow_upstream_proxy",
        effective: |settings| settings.allow_upstream_proxy,
        default: true,
    },
    Bounded {
        key: "allow_local_binding",
        effective: |settings| settings.policy.allows_local_binding(),
        default: false,
    },
    Bounded {
        key: "dangerously_allow_non_loopback_proxy",
        effective: |settings| settings.listen.proxy_reach == codex_network_config::Reach::Anywhere,
        default: false,
    },
    Bounded {
        key: "dangerously_allow_non_loopback_admin",
        effective: |settings| settings.listen.admin_reach == codex_network_config::Reach::Anywhere,
        default: false,
    },
    Bounded {
        key: "dangerously_allow_all_unix_sockets",
        effective: |settings| settings.unix_sockets.allow_all,
        default: false,
    },
    Bounded {
        key: "dangerously_allow_plaintext_credential_injection",
        effective: |settings| settings.plaintext_credential_injection,
        default: false,
    },
];

/// A requirement is a ceiling: without a setting, the stricter of the default and the requirement
/// counts, and switching off is always allowed.
#[test]
fn c6_a_boolean_may_be_narrowed() {
    for Bounded {
        key,
        effective,
        default,
    } in BOUNDED
    {
        let shut = Root::requiring(&format!("{key} = false"));
        assert!(!effective(&shut.settings("")), "{key}");
        assert!(
            !effective(&shut.settings(&format!("{key} = false"))),
            "{key}"
        );
        let open = Root::requiring(&format!("{key} = true"));
        assert_eq!(effective(&open.settings("")), *default, "{key}");
        assert!(effective(&open.settings(&format!("{key} = true"))), "{key}");
        assert!(
            !effective(&open.settings(&format!("{key} = false"))),
            "{key}"
        );
    }
}

#[test]
fn c6_a_boolean_may_not_be_widened() {
    let mut messages = String::new();
    for Bounded { key, .. } in BOUNDED {
        let root = Root::requiring(&format!("{key} = false"));
        messages += &root.messages(&root.sources(&format!("[network]\n{key} = true\n")));
        messages += "\n----\n";
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn c6_limited_is_less_than_full() {
    let limited = Root::requiring("mode = \"limited\"");
    assert_eq!(limited.settings("").policy.mode(), Mode::Limited);
    let same = limited.settings("mode = \"limited\"");
    assert_eq!(same.policy.mode(), Mode::Limited);
    let full = Root::requiring("mode = \"full\"");
    assert_eq!(full.settings("").policy.mode(), Mode::Full);
    let less = full.settings("mode = \"limited\"");
    assert_eq!(less.policy.mode(), Mode::Limited);
    insta::assert_snapshot!(
        limited.messages(&limited.sources("[network]\n\nmode = \"full\"\n")),
        @r#"
    error: user.toml:3:8: invalid value for network.mode: full (allowed limited)
      3 | mode = "full"
        |        ^^^^^^
      help: ROOT/etc/codex/requirements.toml:2 has `mode = "limited"`; take the key out
    "#
    );
}

/// The requirements bind every layer, dialect and flag.
#[test]
fn c6_every_source_is_checked_against_the_requirements() {
    let root = Root::requiring("mode = \"limited\"");
    let full = "[network]\nmode = \"full\"\n";
    root.write("etc/codex-network-proxy/conf.d/1.toml", full);
    root.write("named.toml", full);
    let none = || Sources::none().with_requirements_under(root.path());
    let home = root.path().to_path_buf();
    root.write("config.toml", full);
    for (name, sources) in [
        ("a system layer", Sources::system_under(root.path())),
        (
            "--config",
            Sources::file(root.path().join("named.toml")).with_requirements_under(root.path()),
        ),
        ("-c", none().with_override("network.mode=full")),
        (
            "the user's",
            none().with_user(move |key| (key == "CODEX_HOME").then(|| home.clone().into())),
        ),
        (
            "the first dialect",
            none().with_text("t", "[network_proxy]\nmode = \"full\"\n"),
        ),
        (
            "a profile",
            none().with_text(
                "t",
                "default_permissions = \"p\"\n[permissions.p.network]\nmode = \"full\"\n",
            ),
        ),
    ] {
        let messages = root.messages(&sources);
        let expected = "invalid value for network.mode: full (allowed limited)";
        assert!(messages.contains(expected), "{name}: {messages}");
    }
    // A value that is overridden before it reaches the settings is not a violation.
    let over = root.sources(full).with_override("network.mode=limited");
    assert_eq!(
        load(&over).expect("narrowed").settings.policy.mode(),
        Mode::Limited
    );
}

/// A configuration cannot replace the requirements, nor the other way round.
#[test]
fn c6_the_table_counts_only_in_its_own_files() {
    let root = Root::new();
    let elsewhere = root.loaded("[experimental_network]\nmode = \"limited\"\n");
    assert_eq!(elsewhere.settings.policy.mode(), Mode::Full);
    root.write(
        CODEX,
        "allowed_sandbox_modes = [\"read-only\"]\n[network]\nmode = \"limited\"\nx = 1\n[daemon]\ny = 2\n",
    );
    assert_eq!(root.settings("").policy.mode(), Mode::Full);
}

#[test]
fn c6_both_lists_are_managed_plus_the_users() {
    let root = Root::requiring(
        "allowed_domains = [\"m.example\", \"both.example\"]\ndenied_domains = [\"bad.example\"]",
    );
    let settings = root.settings(
        "allowed_domains = [\"u.example\", \"both.example\", \"bad.example\"]\ndenied_domains = [\"worse.example\", \"m.example\"]",
    );
    let policy = &settings.policy;
    let allowed = rules(policy.allowed());
    assert!(allowed.starts_with(&["m.example".to_owned(), "both.example".to_owned()]));
    assert!(allowed.contains(&"u.example".to_owned()), "{allowed:?}");
    // A deny entry counts from every source.
    assert_eq!(
        rules(policy.denied()),
        ["bad.example", "worse.example", "m.example"]
    );
    let first = policy.allowed().rules().next().expect("a rule");
    assert!(
        first.to_string().ends_with("/requirements.toml:2)"),
        "{first}"
    );
    assert!(!settings.managed.allowed_domains_only);
}

#[test]
fn c6_p8_with_managed_domains_only_nothing_is_left_to_a_decider() {
    let host = Host::parse("other.example").expect("a host");
    let kind = RequestKind::HttpConnect;
    let facts = Facts {
        machine: &NoLocalAddresses,
        listeners: &NoProxyListeners,
        interception: InterceptionSupport::Available,
        credentials: HostCredentials::None,
    };
    for (requirements, is_left) in [
        ("allowed_domains = [\"m.example\"]", true),
        (
            "allowed_domains = [\"m.example\"]\nmanaged_allowed_domains_only = true",
            false,
        ),
    ] {
        let policy = Root::requiring(requirements).settings("").policy;
        let request = Request {
            host: &host,
            port: 443,
            kind: &kind,
            facts,
        };
        let decision = policy.decide(&request);
        assert_eq!(decision.reason(), Reason::NotAllowed);
        assert_eq!(
            policy.leaves_to_decider(decision),
            is_left,
            "{requirements}"
        );
    }
}

#[test]
fn p8_c6_managed_domains_only_leaves_no_host_to_a_decider() {
    let managed = "allowed_domains = [\"m.example\"]";
    let only = format!("{managed}\nmanaged_allowed_domains_only = true");
    for (requirements, expected) in [(managed, true), (&only, false)] {
        let settings = Root::requiring(requirements).loaded("").settings;
        let request = Request {
            host: &Host::parse("other.example").expect("a host"),
            port: 443,
            kind: &RequestKind::HttpConnect,
            facts: Facts {
                machine: &NoLocalAddresses,
                listeners: &NoProxyListeners,
                interception: InterceptionSupport::Available,
                credentials: HostCredentials::None,
            },
        };
        let decision = settings.policy.decide(&request);
        let leaves = settings.policy.leaves_to_decider(decision);
        assert_eq!(leaves, expected, "{requirements}");
    }
}

#[test]
fn c6_with_managed_domains_only_user_entries_are_ignored_with_a_warning() {
    let root =
        Root::requiring("allowed_domains = [\"m.example\"]\nmanaged_allowed_domains_only = true");
    let lists =
        "[network]\nallowed_domains = [\"u.example\", \"*\"]\ndenied_domains = [\"d.example\"]\n";
    let settings = root.loaded(lists).settings;
    assert_eq!(rules(settings.policy.allowed()), ["m.example"]);
    assert_eq!(rules(settings.policy.denied()), ["d.example"]);
    assert!(settings.managed.allowed_domains_only);
    insta::assert_snapshot!(root.messages(&root.sources(lists)));
    let map = "default_permissions = \"p\"\n[permissions.p.network.domains]\n\"u.example\" = \"allow\"\n\"d.example\" = \"deny\"\n";
    let settings = root.loaded(map).settings;
    assert_eq!(rules(settings.policy.allowed()), ["m.example"]);
    assert_eq!(rules(settings.policy.denied()), ["d.example"]);
    insta::assert_snapshot!(root.messages(&root.sources(map)));
    // There is no warning where nothing is lost. Ignored entries must still be valid.
    assert_eq!(root.loaded("").warnings, []);
    assert!(load(&root.sources("[network]\nallowed_domains = [\"x/y\"]\n")).is_err());
}

#[test]
fn c6_a_unix_socket_must_be_on_the_managed_list() {
    let root = Root::requiring("unix_sockets = [\"/run/a\", \"/run/b\"]");
    assert!(root.settings("").unix_sockets.allowed.is_empty());
    let fewer = root.settings("allow_unix_sockets = [\"/run//a\"]");
    assert_eq!(fewer.unix_sockets.allowed, [Path::new("/run/a")]);
    let map = Root::requiring("unix_sockets = { \"/run/a\" = \"allow\", \"/run/b\" = \"deny\" }");
    let none = Root::requiring("unix_sockets = []");
    let mut messages = String::new();
    for (root, user) in [
        (
            &root,
            "[network]\nallow_unix_sockets = [\"/run/a\", \"/run/c\"]\n",
        ),
        (
            &root,
            "[network]\ndangerously_allow_all_unix_sockets = true\n",
        ),
        (
            &map,
            "default_permissions = \"p\"\n[permissions.p.network.unix_sockets]\n\"/run/a\" = \"allow\"\n\"/run/b\" = \"allow\"\n\"/run/c\" = \"deny\"\n",
        ),
        (&none, "[network]\nallow_unix_sockets = [\"/run/a/../a\"]\n"),
    ] {
        messages += &root.messages(&root.sources(user));
        messages += "\n----\n";
    }
    insta::assert_snapshot!(messages);
}

/// Two files narrow each other, whichever of them is the stricter one.
#[test]
fn c6_of_two_files_the_stricter_value_counts() {
    let strict = "enabled = false\nmode = \"limited\"\nallow_local_binding = false\nallowed_domains = [\"s.example\"]\ndenied_domains = [\"sd.example\"]\nmanaged_allowed_domains_only = true\nunix_sockets = [\"/run/a\"]";
    let loose = "enabled = true\nmode = \"full\"\nallow_local_binding = true\nallowed_domains = [\"l.example\"]\ndenied_domains = [\"ld.example\"]\nmanaged_allowed_domains_only = false\nunix_sockets = [\"/run/a\", \"/run/b\"]";
    for (first, second) in [(strict, loose), (loose, strict)] {
        let root = Root::requiring(first);
        root.require(OWN, second);
        let settings =
            root.settings("allow_unix_sockets = [\"/run/a\"]\nallowed_domains = [\"u.example\"]");
        let policy = &settings.policy;
        assert!(!policy.is_enabled());
        assert_eq!(policy.mode(), Mode::Limited);
        let sorted = |set| {
            let mut rules = rules(set);
            rules.sort_unstable();
            rules
        };
        assert_eq!(sorted(policy.allowed()), ["l.example", "s.example"]);
        assert_eq!(sorted(policy.denied()), ["ld.example", "sd.example"]);
        assert!(settings.managed.allowed_domains_only);
        let messages =
            root.messages(&root.sources(
                "[network]\nallow_local_binding = true\nallow_unix_sockets = [\"/run/b\"]\n",
            ));
        assert!(
            messages.contains("network.allow_local_binding: true (allowed false)")
                && messages.contains("network.unix_sockets: /run/b (allowed /run/a)"),
            "{messages}"
        );
        let read = [CODEX, OWN].map(|file| root.path().join(file));
        assert_eq!(settings.files, read);
    }
}

/// All errors of a requirement are reported at once, and nothing is loaded.
#[test]
fn c6_a_requirement_is_judged_like_a_configuration() {
    let root = Root::requiring(concat!(
        "enabld = false\n",
        "mode = \"ful\"\n",
        "proxy_url = \"127.0.0.1:1\"\n",
        "allow_local_binding = \"false\"\n",
        "allowed_domains = [\"*\", \"ok.example\", \"x/y\"]\n",
        "denied_domains = [\"*\"]\n",
        "managed_allowed_domains_only = 1\n",
        "unix_sockets = [\"relative\"]\n",
    ));
    root.write(OWN, "[experimental_netwrok]\nmode = \"limited\"\n");
    let mut messages = root.messages(&root.sources("[network]\nmodes = 1\n"));
    messages += "\n----\n";
    let broken = Root::new();
    broken.write(CODEX, "[experimental_network\n");
    messages += &broken.messages(&broken.sources(""));
    messages += "\n----\n";
    broken.write(CODEX, "experimental_network = true\n");
    messages += &broken.messages(&broken.sources(""));
    insta::assert_snapshot!(messages);
}

/// An unreadable file may forbid anything.
#[test]
fn c6_requirements_that_cannot_be_read_are_an_error() {
    let root = Root::new();
    fs::create_dir_all(root.path().join(CODEX)).expect("a directory");
    assert_eq!(
        root.messages(&root.sources("")),
        "error: ROOT/etc/codex/requirements.toml: cannot be read: it is a directory"
    );
    assert!(root.sources("").capture().is_err());
}

/// The worker, which opens no file, obeys the requirements that the loader has read.
#[test]
fn c6_requirements_travel_with_a_captured_configuration() {
    let root = Root::requiring("mode = \"limited\"\ndenied_domains = [\"d.example\"]");
    let captured = root.sources("").capture().expect("readable files");
    fs::remove_file(root.path().join(CODEX)).expect("our own file");
    let carried = Sources::from_bytes(&captured.to_bytes()).expect("our own bytes");
    let settings = load(&carried).expect("sound").settings;
    assert_eq!(settings.policy.mode(), Mode::Limited);
    assert_eq!(rules(settings.policy.denied()), ["d.example"]);
    let pins = settings.managed.pins().iter().map(ToString::to_string);
    let place = root.path().join(CODEX).display().to_string();
    assert_eq!(pins.collect::<Vec<_>>(), [format!("limited, by {place}:2")]);
    let widened = load(&carried.with_override("network.mode=full"));
    assert!(widened.is_err());
}

#[test]
fn c6_the_settings_know_what_is_pinned_and_what_the_mode_may_become() {
    let root = Root::requiring(
        "enabled = true\nallow_local_binding = false\nmode = \"limited\"\nmanaged_allowed_domains_only = true\nunix_sockets = []",
    );
    let managed = root.settings("").managed;
    let pins: Vec<String> = managed
        .pins()
        .iter()
        .map(|pin| format!("{}: {} ({})", pin.key, pin.allowed, pin.line.line))
        .collect();
    assert_eq!(
        pins,
        [
            "allow_local_binding: false (3)",
            "dangerously_allow_all_unix_sockets: false (6)",
            "mode: limited (4)",
            "allowed_domains: the managed ones (5)",
            "allow_unix_sockets: none (6)",
            "daemon.resolver.nameservers: the system's (5)",
            "daemon.resolver.hosts_file: the system's (5)",
        ]
    );
    assert_eq!(managed.permit_mode(Mode::Limited), Ok(()));
    assert_eq!(managed.narrow(Mode::Full), Mode::Limited);
    let refused = managed.permit_mode(Mode::Full).expect_err("wider");
    let place = root.path().join(CODEX).display().to_string();
    assert_eq!(
        refused.to_string(),
        format!("invalid value for network.mode: full (allowed limited); {place}:4 requires it")
    );
    let free = Root::requiring("mode = \"full\"").settings("").managed;
    assert_eq!(free.permit_mode(Mode::Full), Ok(()));
    assert!(free.pins().is_empty());
}

/// The line of each value can be found, in every dialect and layer.
#[test]
fn c6_the_settings_know_where_each_value_is_written() {
    let root = Root::requiring("enabled = false\nallowed_domains = [\"m.example\"]");
    let text = concat!(
        "default_permissions = \"p\"\n",
        "[permissions.p.network]\n",
        "mitm = { inspect = true }\n",
        "domains = { \"u.example\" = \"allow\" }\n",
        "[daemon.limits]\n",
        "blocked_buffer = 5\n",
    );
    let sources = root
        .sources(text)
        .with_override("permissions.p.network.mode=limited");
    let settings = load(&sources).expect("sound").settings;
    let place = root.path().join(CODEX).display().to_string();
    let origins: Vec<String> = settings
        .lines
        .iter()
        .map(|(key, places)| {
            let places: Vec<String> = places.iter().map(ToString::to_string).collect();
            format!("{key}: {}", places.join(", ")).replace(&place, "REQUIRED")
        })
        .collect();
    assert_eq!(
        origins,
        [
            "allowed_domains: user.toml:4, REQUIRED:3",
            "daemon.limits.blocked_buffer: user.toml:6",
            "denied_domains: user.toml:4",
            "enabled: REQUIRED:2",
            "mitm.inspect: user.toml:3",
            "mode: -c:1",
        ]
    );
}

/// The manual's example and keys match the parser.
#[test]
fn c6_the_manual_shows_requirements_as_they_are_read() {
    let manual = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../packaging/man/codex-network-proxy.toml.5"
    ));
    let manual = manual.expect("the page of the configuration");
    let (_, section) = manual
        .split_once("\n.SH REQUIREMENTS\n")
        .expect("the section");
    let (section, _) = section.split_once("\n.SH ").expect("its end");
    let (_, example) = section
        .split_once(".\\\" toml requirements\n.EX\n")
        .expect("an example");
    let (example, _) = example.split_once(".EE").expect("its end");
    let root = Root::new();
    root.write(CODEX, example);
    let managed = root.settings("").managed;
    assert!(managed.allowed_domains_only);
    assert_eq!(managed.narrow(Mode::Full), Mode::Limited);
    let (keys, _) = section
        .split_once("\n.SS How requirements apply\n")
        .expect("the end of the keys");
    let mut table = "";
    let mut names = Vec::new();
    for line in keys.lines() {
        if let Some(name) = line.strip_prefix(".SS [experimental_network.") {
            table = name.trim_end_matches(']');
        } else if line.starts_with("\\fB") {
            let keys = line.split("\\fB").skip(1);
            let keys = keys.filter_map(|rest| rest.split("\\fR").next());
            names.extend(keys.map(|key| match table {
                "" => key.to_owned(),
                table => format!("{table}.{key}"),
            }));
        }
    }
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(keys.len() >= 12, "{keys:?}");
    for key in keys {
        // A date fits none of them. An unknown key gets another message.
        let (table, key) = key.rsplit_once('.').unwrap_or(("", key));
        let table = match table {
            "" => String::new(),
            table => format!("[experimental_network.{table}]\n"),
        };
        let messages = Root::requiring(&format!("{table}{key} = 1979-05-27"));
        let messages = messages.messages(&messages.sources(""));
        assert!(
            messages.contains(&format!("`{key}` must be ")),
            "{key}: {messages}"
        );
    }
}

#[test]
fn c12_a_required_port_is_the_only_one() {
    let root = Root::requiring("http_port = 4001\nsocks_port = 4002");
    let listen = root.settings("").listen;
    assert_eq!(
        listen.http.port(),
        4001,
        "it counts where no address is written"
    );
    assert_eq!(listen.socks5.map(|address| address.port()), Some(4002));
    let same = root.settings("proxy_url = \"localhost\"\nsocks_url = \"[::1]:4002\"");
    assert_eq!(same.listen.http.to_string(), "127.0.0.1:4001");
    assert_eq!(
        same.listen
            .socks5
            .map(|address| address.to_string())
            .as_deref(),
        Some("[::1]:4002")
    );
    let pins: Vec<String> = same
        .managed
        .pins()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(pins.len(), 2, "{pins:?}");
    assert!(pins[0].starts_with("port 4001, by "), "{pins:?}");
    for (network, expected) in [
        (
            "proxy_url = \"http://127.0.0.1:3128\"",
            "invalid value for network.proxy_url: port 3128 (allowed port 4001)",
        ),
        (
            "socks_url = \"127.0.0.1:0\"",
            "invalid value for network.socks_url: port 0 (allowed port 4002)",
        ),
    ] {
        let text = format!("[network]\n{network}\n");
        let errors = load(&root.sources(&text)).expect_err(network).one_line();
        assert!(errors.contains(expected), "{errors}");
    }
}

#[test]
fn c12_required_ports_that_leave_no_value_are_errors() {
    let root = Root::requiring("http_port = 4001");
    root.require(OWN, "http_port = 4001");
    assert_eq!(root.settings("").listen.http.port(), 4001);
    root.require(OWN, "http_port = 4003");
    let errors = load(&root.sources("")).expect_err("two ports").one_line();
    assert!(errors.contains("`http_port` leaves no value"), "{errors}");
    for (table, expected) in [
        ("http_port = 0", "`http_port` must be from 1 to 65535"),
        ("http_port = 65536", "`http_port` must be from 1 to 65535"),
        ("socks_port = \"1\"", "`socks_port` must be a whole number"),
        // The default of the admin API, which nothing moves.
        ("http_port = 8080", "would both listen on 127.0.0.1:8080"),
    ] {
        let root = Root::requiring(table);
        let errors = load(&root.sources("")).expect_err(table).one_line();
        assert!(errors.contains(expected), "{errors}");
    }
    let text = "[network]\nhttp_port = 4001\n";
    assert!(
        load(&Sources::none().with_text("c.toml", text)).is_err(),
        "it is a requirement only"
    );
}

#[test]
fn c12_required_hosts_may_be_a_map() {
    let root = Root::requiring(
        "managed_allowed_domains_only = true\n[experimental_network.domains]\n\"a.example\" = \"allow\"\n\"b.example\" = \"deny\"\n\"c.example\" = \"none\"\n\"A.example.\" = \"none\"",
    );
    let settings = root.settings("denied_domains = [\"d.example\"]");
    let rules = |set: &DomainSet| set.rules().map(|rule| rule.pattern).collect::<Vec<_>>();
    assert_eq!(rules(settings.policy.allowed()), ["a.example"]);
    assert_eq!(rules(settings.policy.denied()), ["b.example", "d.example"]);
    for (table, expected) in [
        (
            "domains = { \"*\" = \"allow\" }",
            "a single `*` is allowed only",
        ),
        (
            "domains = { \"a.example\" = true }",
            "`a.example` must be a string",
        ),
        (
            "domains = [\"a.example\"]",
            "`domains` must be a table of permissions",
        ),
        (
            "allowed_domains = []\ndomains = {}",
            "mix the list form and the map form",
        ),
    ] {
        let root = Root::requiring(table);
        let errors = load(&root.sources("")).expect_err(table).one_line();
        assert!(errors.contains(expected), "{errors}");
    }
}

#[test]
fn c12_requirements_of_another_kind_of_program_bound_nothing_and_are_noted() {
    let root = Root::new();
    root.write(
        CODEX,
        "[application.network]\nmode = \"limited\"\n[application.other]\n",
    );
    let loaded = root.loaded("");
    assert_eq!(loaded.settings.policy.mode(), Mode::Full);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let [note] = &loaded.notes[..] else {
        panic!("{:?}", loaded.notes);
    };
    assert!(
        note.to_string()
            .contains("`[application.network]` is for another program"),
        "{note}"
    );
}
