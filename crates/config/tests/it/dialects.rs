//! Every key in every dialect (SPEC C2, C3): four equivalent files give the same `Settings`, and
//! each key by itself has its effect in every table.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use codex_network_config::{CaPaths, Loaded, Mitm, Settings, Sources, UnixSockets, load};
use codex_network_policy::{
    Content, Facts, Host, HostCredentials, HttpHead, Interception, InterceptionSupport, Mode,
    NoLocalAddresses, NoProxyListeners, Reason, Request, RequestKind,
};

/// Where the keys of a dialect begin, and how it writes its lists.
struct Dialect {
    name: &'static str,
    /// The header of the table of common keys.
    top: &'static str,
    /// The header of the table with lists or maps.
    rules: &'static str,
    /// The header of the interception table.
    mitm: &'static str,
    lists: Lists,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    Arrays,
    Maps,
}

const DIALECTS: [Dialect; 4] = [
    Dialect {
        name: "network_proxy",
        top: "[network_proxy]\n",
        rules: "[network_proxy.policy]\n",
        mitm: "[network_proxy.mitm",
        lists: Lists::Arrays,
    },
    Dialect {
        name: "network",
        top: "[network]\n",
        rules: "",
        mitm: "[network.mitm",
        lists: Lists::Arrays,
    },
    Dialect {
        name: "permissions with lists",
        top: "default_permissions = \"dev\"\n[permissions.dev.network]\n",
        rules: "",
        mitm: "[permissions.dev.network.mitm",
        lists: Lists::Arrays,
    },
    Dialect {
        name: "permissions with maps",
        top: "default_permissions = \"dev\"\n[permissions.dev.network]\n",
        rules: "",
        mitm: "[permissions.dev.network.mitm",
        lists: Lists::Maps,
    },
];

impl Dialect {
    /// Common keys at the top of the dialect's table.
    fn with_common(&self, keys: &str) -> Settings {
        self.load(&format!("{}{keys}\n", self.top))
    }

    /// The three lists in the dialect's own form.
    fn with_lists(&self, allowed: &[&str], denied: &[&str], sockets: &[&str]) -> Settings {
        let rules = match self.lists {
            Lists::Arrays => format!(
                "allowed_domains = {allowed:?}\ndenied_domains = {denied:?}\nallow_unix_sockets = {sockets:?}\n"
            ),
            Lists::Maps => {
                let entries = |list: &[&str], word: &str| -> String {
                    list.iter().fold(String::new(), |text, entry| {
                        format!("{text}{entry:?} = {word:?}\n")
                    })
                };
                format!(
                    "[permissions.dev.network.domains]\n{}{}[permissions.dev.network.unix_sockets]\n{}",
                    entries(allowed, "allow"),
                    entries(denied, "deny"),
                    entries(sockets, "allow"),
                )
            }
        };
        self.load(&format!("{}{}{rules}", self.top, self.rules))
    }

    /// Interception keys, and tables below them.
    fn with_mitm(&self, keys: &str, tables: &[(&str, &str)]) -> String {
        let mitm = self.mitm;
        let mut text = format!("{}{mitm}]\n{keys}\n", self.top);
        for (table, keys) in tables {
            text = format!("{text}{mitm}.{table}]\n{keys}\n");
        }
        text
    }

    fn load(&self, text: &str) -> Settings {
        loaded(text, self.name).settings
    }
}

#[track_caller]
fn loaded(text: &str, name: &str) -> Loaded {
    match load(&Sources::none().with_text("config.toml", text)) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{name}:\n{text}\n{errors}"),
    }
}

/// Loads the same common keys in each dialect.
#[track_caller]
fn for_each_dialect(keys: &str, check: impl Fn(&Settings)) {
    for dialect in &DIALECTS {
        check(&dialect.with_common(keys));
    }
}

#[test]
fn c3_switches_mean_the_same_everywhere() {
    for_each_dialect("", |settings| {
        assert!(settings.policy.is_enabled());
        assert_eq!(settings.policy.mode(), Mode::Full);
        assert!(!settings.policy.allows_local_binding());
        assert!(settings.policy.allowed().is_empty());
        assert!(settings.listen.socks5.is_some());
        assert!(settings.socks5_udp);
        assert!(settings.allow_upstream_proxy);
        assert!(!settings.unix_sockets.allow_all);
        assert!(!settings.credential_broker);
        assert!(!settings.plaintext_credential_injection);
        assert_eq!(settings.mitm, Mitm::default());
    });
    for_each_dialect("enabled = false", |settings| {
        assert!(!settings.policy.is_enabled());
    });
    for_each_dialect("mode = \"limited\"", |settings| {
        assert_eq!(settings.policy.mode(), Mode::Limited);
    });
    for_each_dialect("mode = \"full\"", |settings| {
        assert_eq!(settings.policy.mode(), Mode::Full);
    });
    for_each_dialect("enable_socks5 = false", |settings| {
        assert_eq!(settings.listen.socks5, None);
    });
    for_each_dialect("enable_socks5_udp = false", |settings| {
        assert!(!settings.socks5_udp);
    });
    for_each_dialect("allow_upstream_proxy = false", |settings| {
        assert!(!settings.allow_upstream_proxy);
    });
    for_each_dialect("allow_local_binding = true", |settings| {
        assert!(settings.policy.allows_local_binding());
    });
    for_each_dialect("dangerously_allow_all_unix_sockets = true", |settings| {
        assert!(settings.unix_sockets.allow_all);
    });
    for_each_dialect("credential_broker = true", |settings| {
        assert!(settings.credential_broker);
    });
    for_each_dialect(
        "dangerously_allow_plaintext_credential_injection = true",
        |settings| assert!(settings.plaintext_credential_injection),
    );
    for_each_dialect("mitm = false", |settings| {
        assert_eq!(settings.policy.interception(), Interception::Forbidden);
    });
    for_each_dialect("mitm = true", |settings| {
        assert_eq!(settings.policy.interception(), Interception::Automatic);
    });
}

#[test]
fn c3_addresses_mean_the_same_everywhere() {
    let urls =
        "proxy_url = \"http://127.0.0.2:1\"\nsocks_url = \"127.0.0.3:2\"\nadmin_url = \"[::1]:3\"";
    for_each_dialect(urls, |settings| {
        assert_eq!(settings.listen.http, address("127.0.0.2:1"));
        assert_eq!(settings.listen.socks5, Some(address("127.0.0.3:2")));
        assert_eq!(settings.listen.admin, Some(address("[::1]:3")));
    });
    let exposed =
        "proxy_url = \"192.0.2.1:1\"\nsocks_url = \"192.0.2.1:2\"\nadmin_url = \"192.0.2.1:3\"\n";
    for_each_dialect(
        &format!("{exposed}dangerously_allow_non_loopback_proxy = true"),
        |settings| {
            assert_eq!(settings.listen.http, address("192.0.2.1:1"));
            assert_eq!(settings.listen.socks5, Some(address("192.0.2.1:2")));
            assert_eq!(settings.listen.admin, Some(address("127.0.0.1:3")));
        },
    );
    for_each_dialect(
        &format!("{exposed}dangerously_allow_non_loopback_admin = true"),
        |settings| {
            assert_eq!(settings.listen.http, address("127.0.0.1:1"));
            assert_eq!(settings.listen.socks5, Some(address("127.0.0.1:2")));
            assert_eq!(settings.listen.admin, Some(address("192.0.2.1:3")));
        },
    );
}

/// SPEC C2: the first dialect's old name.
#[test]
fn c2_the_old_name_of_the_non_loopback_key_works() {
    let text =
        "[network_proxy]\nproxy_url = \"192.0.2.1:1\"\ndangerously_allow_non_loopback = true\n";
    let settings = loaded(text, "old name").settings;
    assert_eq!(settings.listen.http, address("192.0.2.1:1"));
}

#[test]
fn c2_lists_and_maps_mean_the_same() {
    for dialect in &DIALECTS {
        let settings = dialect.with_lists(
            &["**.b.example", "a.example"],
            &["*.c.example", "::1"],
            &["/run/one", "/run/two"],
        );
        let name = dialect.name;
        let patterns = |list: &codex_network_policy::DomainSet| -> Vec<String> {
            list.rules().map(|rule| rule.pattern).collect()
        };
        let allowed = patterns(settings.policy.allowed());
        assert_eq!(allowed, ["**.b.example", "a.example"], "{name}");
        let denied = patterns(settings.policy.denied());
        assert_eq!(denied, ["*.c.example", "::1"], "{name}");
        let sockets = UnixSockets {
            allowed: vec!["/run/one".into(), "/run/two".into()],
            ..UnixSockets::default()
        };
        assert_eq!(settings.unix_sockets, sockets, "{name}");
    }
}

/// SPEC C2: deny wins for sockets too, however the path is spelled.
#[test]
fn c2_a_denied_socket_is_not_allowed() {
    let text = "default_permissions = \"p\"\n[permissions.p.network.unix_sockets]\n\"/run/a\" = \"allow\"\n\"/run//a\" = \"deny\"\n\"/run/b\" = \"allow\"\n\"/run/c\" = \"none\"\n";
    let sockets = loaded(text, "sockets").settings.unix_sockets;
    assert_eq!(sockets.allowed, [Path::new("/run/b")]);
    assert_eq!(sockets.denied, [Path::new("/run//a")]);
}

/// SPEC P10: a rule knows its file and line, in an array and in a map.
#[test]
fn p10_rules_know_where_they_are_written() {
    let array =
        "[network]\nallowed_domains = [\n  \"a.example\",\n\n  \"b.example\", \"c.example\",\n]\n";
    let map = "default_permissions = \"p\"\n[permissions.p.network.domains]\n\"z.example\" = \"allow\"\n\"a.example\" = \"allow\"\n";
    for (text, expected) in [
        (
            array,
            &[
                "a.example (config.toml:3)",
                "b.example (config.toml:5)",
                "c.example (config.toml:5)",
            ][..],
        ),
        (
            map,
            &["z.example (config.toml:3)", "a.example (config.toml:4)"],
        ),
    ] {
        let settings = loaded(text, "origins").settings;
        let rules: Vec<String> = settings
            .policy
            .allowed()
            .rules()
            .map(|rule| rule.to_string())
            .collect();
        assert_eq!(rules, expected);
    }
}

/// SPEC C2: none < allow < deny, however a pattern is spelled.
#[test]
fn c2_duplicates_of_a_pattern_count_as_the_strictest() {
    let cases = [
        (
            "[network]\nallowed_domains = [\"a.example\", \"A.EXAMPLE.\"]\ndenied_domains = [\"a.Example\"]\n",
            Reason::Denied,
        ),
        (
            "default_permissions = \"p\"\n[permissions.p.network.domains]\n\"a.example\" = \"deny\"\n\"A.example\" = \"allow\"\n",
            Reason::Denied,
        ),
        (
            "default_permissions = \"p\"\n[permissions.p.network.domains]\n\"a.example\" = \"none\"\n",
            Reason::NotAllowed,
        ),
        (
            "default_permissions = \"p\"\n[permissions.p.network.domains]\n\"a.example\" = \"none\"\n\"A.example\" = \"allow\"\n",
            Reason::Allow,
        ),
    ];
    for (text, reason) in cases {
        let settings = loaded(text, "duplicates").settings;
        let reached = reason_for(&settings, "a.example", &RequestKind::HttpConnect);
        assert_eq!(reached, reason, "{text}");
    }
}

#[test]
fn c2_m1_interception_means_the_same_everywhere() {
    for dialect in &DIALECTS {
        let keys = concat!(
            "enabled = false\n",
            "inspect = true\n",
            "max_body_bytes = 17\n",
            "ca_cert_path = \"ca/cert.pem\"\n",
            "ca_key_path = \"/etc/ca.key\"\n",
        );
        let settings = dialect.load(&dialect.with_mitm(keys, &[]));
        let expected = Mitm {
            inspect: true,
            max_body_bytes: 17,
            ca_paths: Some(CaPaths {
                certificate: "ca/cert.pem".into(),
                key: "/etc/ca.key".into(),
            }),
            ..Mitm::default()
        };
        assert_eq!(settings.mitm, expected, "{}", dialect.name);
        assert_eq!(Mitm::default().max_body_bytes, 4096, "SPEC C2");
    }
}

/// Hosts with hooks are reached only through interception (SPEC M9, M10); others are not touched.
#[test]
fn m9_hooks_mean_the_same_everywhere() {
    for dialect in &DIALECTS {
        let hook = (
            "hooks.api",
            concat!(
                "host = \"API.example.com\"\n",
                "methods = [\"get\"]\n",
                "path_prefixes = [\"/v1\", \"pattern:/x/*\"]\n",
                "query = { q = [\"1\"] }\n",
                "headers = { Accept = [] }\n",
                "action = [\"auth\"]\n",
            ),
        );
        let action = (
            "actions.auth",
            concat!(
                "strip_request_headers = [\"Authorization\"]\n",
                "inject_request_headers = [{ name = \"Authorization\", secret_env_var = \"T\", prefix = \"Bearer \" }]\n",
            ),
        );
        // The host must be allowed before its hooks matter.
        let allowed = match dialect.name {
            "network_proxy" => "network_proxy.policy.allowed_domains=['*']",
            "network" => "network.allowed_domains=['*']",
            "permissions with lists" => "permissions.dev.network.allowed_domains=['*']",
            _ => "permissions.dev.network.domains={'*'='allow'}",
        };
        let sources = Sources::none()
            .with_text("config.toml", dialect.with_mitm("", &[hook, action]))
            .with_override(allowed)
            .with_environment(|name| (name == "T").then(|| "hunter2".into()));
        let settings = load(&sources).expect(dialect.name).settings;
        let hooked = reason_for(&settings, "api.example.com", &get());
        assert_eq!(hooked, Reason::MitmRequired, "{}", dialect.name);
        let other = reason_for(&settings, "www.example.com", &get());
        assert_eq!(other, Reason::Allow, "{}", dialect.name);

        let (id, hook) = settings.mitm.hooks.iter().next().expect("one hook");
        assert_eq!(hook.name, "api");
        let origin = hook.written_at.as_ref().expect("it is written");
        assert_eq!(&*origin.file, "config.toml");
        assert_eq!(hook.methods[0].as_str(), "GET");
        assert_eq!(hook.headers[0].0.as_str(), "accept");
        let action = settings.mitm.actions.of(id).next().expect("one action");
        assert_eq!(action.strip[0].as_str(), "authorization");
        assert_eq!(action.inject[0].name.as_str(), "authorization");
        assert_eq!(action.inject[0].value.expose(), b"Bearer hunter2");
    }
}

/// SPEC C4: the file may be Codex's own, with other tables.
#[test]
fn c4_tables_of_others_are_ignored() {
    let text = concat!(
        "model = \"o1\"\n",
        "sandbox_mode = \"read-only\"\n",
        "notify = [\"a\", 1, { x = 1979-05-27T07:32:00Z }]\n",
        "[tools]\nweb_search = true\n",
        "[mcp_servers.x]\ncommand = \"y\"\n",
        "[features]\nunknown = 1.5\n",
        "[permissions.dev.filesystem]\n\":root\" = \"read\"\n",
        "[network]\nmode = \"limited\"\n",
    );
    let loaded = loaded(text, "Codex's own");
    assert_eq!(loaded.settings.policy.mode(), Mode::Limited);
    assert_eq!(loaded.warnings, []);
}

/// A profile without network rules means the defaults, and so does one that Codex brings along.
#[test]
fn c2_a_profile_without_network_rules_means_the_defaults() {
    for text in [
        "default_permissions = \"dev\"\n[permissions.dev.filesystem]\nx = 1\n",
        "default_permissions = \":workspace\"\n",
        "default_permissions = \"dev\"\n[permissions.dev]\n[permissions.ci.network]\nmode = \"limited\"\n",
        // Another dialect is used, so profiles belong to Codex.
        "[network]\n[permissions.ci.network]\nmode = \"limited\"\n",
        "default_permissions = \"dev\"\n[permissions.dev]\n[network]\n",
    ] {
        let settings = loaded(text, "profile").settings;
        assert_eq!(settings.policy.mode(), Mode::Full, "{text}");
        assert_eq!(settings.policy.allowed().len(), 0, "{text}");
    }
}

/// SPEC L7: no configuration at all.
#[test]
fn l7_an_empty_configuration_means_the_defaults() {
    let loaded = load(&Sources::none()).expect("nothing is wrong with nothing");
    let (settings, defaults) = (loaded.settings, Settings::default());
    assert_eq!(settings.listen, defaults.listen);
    assert_eq!(settings.daemon, defaults.daemon);
    assert_eq!(settings.mitm, defaults.mitm);
    assert_eq!(settings.files, Vec::<PathBuf>::new());
    assert_eq!(settings.listen.http, address("127.0.0.1:3128"), "SPEC L1");
    let socks5 = Some(address("127.0.0.1:8081"));
    assert_eq!(settings.listen.socks5, socks5, "SPEC L2");
    let admin = Some(address("127.0.0.1:8080"));
    assert_eq!(settings.listen.admin, admin, "SPEC L3");
    let refused = reason_for(&settings, "example.com", &get());
    assert_eq!(refused, Reason::NotAllowed);
    assert!(loaded.warnings.is_empty() && loaded.notes.is_empty());
}

/// Every key of the newest dialect and of `[daemon]` is in the full example.
#[test]
fn c5_the_full_example_has_every_key() {
    let text = include_str!("full.toml");
    // The lists are the older form of the maps, and `body` is reserved. The example has both forms
    // of one switch in one place.
    let older = [
        "allowed_domains",
        "denied_domains",
        "allow_unix_sockets",
        "body",
        "mitm",
    ];
    let is_in = |table: &str| {
        [
            "permissions.NAME.network",
            "daemon",
            "mitm.",
            "credentials.",
        ]
        .iter()
        .any(|ours| table.starts_with(ours))
    };
    let keys = codex_network_config::keys();
    for (table, key) in keys.iter().filter(|(table, _)| is_in(table)) {
        let ways = [
            format!("\n{key} = "),
            format!(".{key}]"),
            format!(".{key}."),
        ];
        let has_key = ways.iter().any(|way| text.contains(way));
        assert!(has_key || older.contains(key), "[{table}] {key}");
    }
}

/// The full example is sound, and each of its values arrives.
#[test]
fn c5_the_full_example_is_sound() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    let (path, key) = (directory.join("full.toml"), directory.join("key"));
    // Its secret file belongs to the machine; here it is a temporary one.
    let text = include_str!("full.toml");
    assert!(text.contains("/etc/secrets/key"));
    let text = text.replace("/etc/secrets/key", key.to_str().expect("UTF-8"));
    let text = crate::telemetry::with_files(&text, directory);
    std::fs::write(&path, text).expect("written");
    std::fs::write(&key, "sesame\n").expect("written");
    let sources = Sources::file(&path)
        .with_environment(|name| (name == "API_TOKEN").then(|| "hunter2".into()));
    let settings = load(&sources).expect("the example").settings;
    assert_eq!(settings.files, std::slice::from_ref(&path));
    let ca = settings
        .mitm
        .ca_paths
        .clone()
        .expect("the example has a CA");
    assert_eq!(
        ca.certificate,
        directory.join("ca.pem"),
        "SPEC C2: relative to the file"
    );
    let shown = format!("{:#?}\n{:#?}", settings.listen, settings.daemon);
    let shown = shown.replace(directory.to_str().expect("UTF-8"), "DIRECTORY");
    insta::assert_snapshot!(shown);
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn get() -> RequestKind<'static> {
    RequestKind::Http(HttpHead {
        method: "GET".into(),
        upgrade: None,
        content: Content::Absent,
    })
}

fn reason_for(settings: &Settings, host: &str, kind: &RequestKind<'_>) -> Reason {
    let host = Host::parse(host).expect("a host");
    let request = Request {
        host: &host,
        port: 443,
        kind,
        facts: Facts {
            machine: &NoLocalAddresses,
            listeners: &NoProxyListeners,
            interception: InterceptionSupport::Available,
            credentials: HostCredentials::None,
        },
    };
    settings.policy.decide(&request).reason()
}
