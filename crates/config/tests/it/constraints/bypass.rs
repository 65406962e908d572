//! Attempts to get around a requirement through another key: the resolver, local literals,
//! `[daemon]`. Each is an error with its file and line in every layer. Permitted values come into
//! force (SPEC C6).

use std::path::Path;

use codex_network_config::{AdminAccess, Sandbox, Settings, Sources, load};

use super::{CODEX, OWN, Root, rules};

const ONLY: &str = "allowed_domains = [\"m.example\"]\nmanaged_allowed_domains_only = true";
const NO_LOCAL: &str = "allow_local_binding = false";
const SERVERS: &str = "[experimental_network.daemon.resolver]\nnameservers = [\"192.0.2.53:53\", \"192.0.2.54:53\"]\nhosts_file = \"/etc/managed-hosts\"";

/// A requirement, a configuration that goes around it, and the message.
const BYPASSES: &[(&str, &str, &str)] = &[
    // An allowed name leads where the resolver says.
    (
        ONLY,
        "[daemon.resolver]\nnameservers = [\"203.0.113.53:53\"]",
        "daemon.resolver.nameservers: 203.0.113.53:53 (allowed the system's)",
    ),
    (
        ONLY,
        "[daemon.resolver]\nhosts_file = \"/elsewhere/hosts\"",
        "daemon.resolver.hosts_file: /elsewhere/hosts (allowed the system's)",
    ),
    (
        SERVERS,
        "[daemon.resolver]\nnameservers = [\"192.0.2.53\", \"203.0.113.53\"]",
        "daemon.resolver.nameservers: 203.0.113.53:53 (allowed 192.0.2.53:53, 192.0.2.54:53)",
    ),
    (
        SERVERS,
        "[daemon.resolver]\nhosts_file = \"/etc/hosts\"",
        "daemon.resolver.hosts_file: /etc/hosts (allowed /etc/managed-hosts)",
    ),
    (
        "[experimental_network.daemon.resolver]\nnameservers = []",
        "[daemon.resolver]\nnameservers = [\"127.0.0.1:53\"]",
        "daemon.resolver.nameservers: 127.0.0.1:53 (allowed the system's)",
    ),
    // An entry that spells out a local host lifts the rule against it.
    (
        NO_LOCAL,
        "[network]\nallowed_domains = [\"a.example\", \"127.0.0.1\"]",
        "network.allowed_domains: 127.0.0.1 (allowed no local or private address)",
    ),
    (
        NO_LOCAL,
        "[network]\nallowed_domains = [\"localhost\"]",
        "network.allowed_domains: localhost (allowed no local",
    ),
    (
        NO_LOCAL,
        "[network]\nallowed_domains = [\"db.localhost.\"]",
        "network.allowed_domains: db.localhost (allowed no local",
    ),
    (
        NO_LOCAL,
        "[network_proxy.policy]\nallowed_domains = [\"0x0a000001\"]",
        "network.allowed_domains: 10.0.0.1 (allowed no local",
    ),
    (
        NO_LOCAL,
        "[network]\nallowed_domains = [\"::ffff:169.254.169.254\"]",
        "network.allowed_domains: 169.254.169.254 (allowed no local",
    ),
    (
        NO_LOCAL,
        "[network]\nallowed_domains = [\"64:ff9b::a00:1\"]",
        "network.allowed_domains: 64:ff9b::a00:1 (allowed no local",
    ),
    (
        NO_LOCAL,
        "[network]\nallowed_domains = [\"fe80::1%eth0\"]",
        "network.allowed_domains: fe80::1%eth0 (allowed no local",
    ),
    (
        NO_LOCAL,
        "default_permissions = \"p\"\n[permissions.p.network.domains]\n\"192.168.0.1\" = \"allow\"",
        "network.allowed_domains: 192.168.0.1 (allowed no local",
    ),
    // The daemon's own keys.
    (
        "[experimental_network.daemon]\nsandbox = \"require\"",
        "[daemon]\nsandbox = \"try\"",
        "daemon.sandbox: try (allowed require)",
    ),
    (
        "[experimental_network.daemon]\nsandbox = \"try\"",
        "[daemon]\nsandbox = \"off\"",
        "daemon.sandbox: off (allowed try or require)",
    ),
    (
        "[experimental_network.daemon]\nuser = \"codex-network-proxy\"",
        "[daemon]\nuser = \"root\"",
        "daemon.user: root (allowed codex-network-proxy)",
    ),
    (
        "[experimental_network.daemon]\ngroup = \"codex-network-proxy\"",
        "[daemon]\ngroup = \"docker\"",
        "daemon.group: docker (allowed codex-network-proxy)",
    ),
    (
        "[experimental_network.daemon]\nlog = \"info\"",
        "[daemon]\nlog = \"off\"",
        "daemon.log: off (allowed info)",
    ),
    (
        "[experimental_network.daemon.admin]\nenabled = false",
        "[daemon.admin]\nenabled = true",
        "daemon.admin.enabled: true (allowed false)",
    ),
    (
        "[experimental_network.daemon.admin]\nread_only = true",
        "[daemon.admin]\nread_only = false",
        "daemon.admin.read_only: false (allowed true)",
    ),
];

#[test]
fn c6_no_other_key_leads_around_a_requirement() {
    for (required, asked, messages) in BYPASSES {
        let root = Root::requiring(required);
        assert!(load(&root.sources(asked)).is_err(), "{asked}");
        let findings = root.messages(&root.sources(asked));
        let expected = format!("invalid value for {messages}");
        assert!(findings.contains(&expected), "{asked}: {findings}");
        assert!(
            findings.contains("ROOT/etc/codex/requirements.toml:"),
            "{findings}"
        );
        // Without the requirement it is a valid configuration.
        root.write(CODEX, "");
        root.loaded(asked);
    }
}

#[test]
fn c6_no_layer_leads_around_a_requirement_for_the_daemon() {
    let root = Root::requiring(ONLY);
    root.write(
        "named.toml",
        "[daemon.resolver]\nhosts_file = \"/elsewhere/hosts\"\n",
    );
    root.write(
        "etc/codex-network-proxy/conf.d/1.toml",
        "[daemon.resolver]\nnameservers = [\"203.0.113.53\"]\n",
    );
    let none = || Sources::none().with_requirements_under(root.path());
    for (name, sources) in [
        ("a system layer", Sources::system_under(root.path())),
        (
            "--config",
            Sources::file(root.path().join("named.toml")).with_requirements_under(root.path()),
        ),
        (
            "-c",
            none().with_override("daemon.resolver.nameservers=[\"203.0.113.53\"]"),
        ),
    ] {
        assert!(load(&sources).is_err(), "{name}");
        let messages = root.messages(&sources);
        assert!(
            messages.contains("invalid value for daemon.resolver."),
            "{name}: {messages}"
        );
    }
}

fn servers(settings: &Settings) -> Vec<String> {
    let servers = settings.daemon.resolver.nameservers.iter();
    servers.map(ToString::to_string).collect()
}

/// Where the configuration is silent, the stricter of its default and the requirement counts.
#[test]
fn c6_a_configuration_that_obeys_or_is_silent_gets_the_required_value() {
    let all = format!(
        "{SERVERS}\n[experimental_network.daemon]\nsandbox = \"require\"\nuser = \"proxy\"\ngroup = \"proxy\"\nlog = \"info\"\n[experimental_network.daemon.admin]\nenabled = false\nread_only = true"
    );
    let root = Root::requiring(&all);
    let same = "[daemon]\nsandbox = \"require\"\nuser = \"proxy\"\ngroup = \"proxy\"\nlog = \"info\"\n[daemon.admin]\nenabled = false\nread_only = true\n[daemon.resolver]\nnameservers = [\"192.0.2.54:53\", \"192.0.2.53\"]\nhosts_file = \"/etc/managed-hosts\"\n";
    for (text, order) in [
        ("", ["192.0.2.53:53", "192.0.2.54:53"]),
        (same, ["192.0.2.54:53", "192.0.2.53:53"]),
        (
            "[daemon.resolver]\nnameservers = []",
            ["192.0.2.53:53", "192.0.2.54:53"],
        ),
    ] {
        let settings = root.loaded(text).settings;
        let daemon = &settings.daemon;
        assert_eq!(daemon.sandbox, Sandbox::Require);
        assert_eq!(daemon.user.as_deref(), Some("proxy"));
        assert_eq!(daemon.group.as_deref(), Some("proxy"));
        assert_eq!(daemon.admin.access, AdminAccess::ReadOnly);
        assert_eq!(settings.listen.admin, None);
        assert_eq!(servers(&settings), order);
        let hosts = daemon.resolver.hosts_file.as_deref();
        assert_eq!(hosts, Some(Path::new("/etc/managed-hosts")));
    }
    let pins = root.settings("").managed;
    let findings = |key: &str| {
        let pin = pins.pins().iter().find(|pin| pin.key == key);
        pin.unwrap_or_else(|| panic!("{key} is not pinned"))
            .allowed
            .clone()
    };
    assert_eq!(findings("daemon.sandbox"), "require");
    assert_eq!(findings("daemon.user"), "proxy");
    assert_eq!(findings("daemon.log"), "info");
    assert_eq!(findings("daemon.admin.enabled"), "false");
    assert_eq!(findings("daemon.admin.read_only"), "true");
    assert_eq!(
        findings("daemon.resolver.nameservers"),
        "192.0.2.53:53, 192.0.2.54:53"
    );
    assert_eq!(findings("daemon.resolver.hosts_file"), "/etc/managed-hosts");
    // A stricter value stays, and a requirement without effect bounds nothing.
    let loose = Root::requiring(
        "[experimental_network.daemon]\nsandbox = \"try\"\n[experimental_network.daemon.admin]\nenabled = true\nread_only = false",
    );
    let strict = loose.loaded("[daemon]\nsandbox = \"require\"\n[daemon.admin]\nread_only = true");
    assert_eq!(strict.settings.daemon.sandbox, Sandbox::Require);
    assert_eq!(strict.settings.daemon.admin.access, AdminAccess::ReadOnly);
}

/// The requirements may name a resolver of their own where they alone allow hosts.
#[test]
fn c6_with_managed_domains_only_the_resolver_is_the_requirements_own_or_the_systems() {
    let settings = Root::requiring(ONLY).settings("");
    assert!(settings.daemon.resolver.nameservers.is_empty());
    assert_eq!(settings.daemon.resolver.hosts_file, None);
    let own = Root::requiring(&format!("{ONLY}\n{SERVERS}"));
    let resolver = own.settings("").daemon.resolver;
    assert_eq!(resolver.nameservers.len(), 2);
    assert!(resolver.hosts_file.is_some());
    // One key alone: the other is the system's.
    let hosts = "[experimental_network.daemon.resolver]\nhosts_file = \"/etc/managed-hosts\"";
    let half = Root::requiring(&format!("{ONLY}\n{hosts}"));
    let messages = half.messages(&half.sources("[daemon.resolver]\nnameservers = [\"192.0.2.1\"]"));
    assert!(
        messages.contains("192.0.2.1:53 (allowed the system's)"),
        "{messages}"
    );
}

/// The administrator's own entries for local hosts hold, and the user's are ignored where all of
/// the user's are.
#[test]
fn c6_a_managed_local_entry_is_no_bypass() {
    let managed = "allowed_domains = [\"10.0.0.5\", \"localhost\"]\nallow_local_binding = false";
    let root = Root::requiring(managed);
    let settings = root.settings("allowed_domains = [\"10.0.0.5\", \"localhost\", \"a.example\"]");
    assert!(rules(settings.policy.allowed()).contains(&"10.0.0.5".to_owned()));
    let other = root.messages(&root.sources("[network]\nallowed_domains = [\"10.0.0.6\"]"));
    assert!(
        other.contains("network.allowed_domains: 10.0.0.6"),
        "{other}"
    );
    let only = Root::requiring(&format!("{managed}\nmanaged_allowed_domains_only = true"));
    let settings = only.settings("allowed_domains = [\"10.0.0.6\"]");
    let allowed = rules(settings.policy.allowed());
    assert!(!allowed.contains(&"10.0.0.6".to_owned()), "{allowed:?}");
    // Names that a pattern covers, with wildcards too, lift nothing.
    let wild = Root::requiring(NO_LOCAL);
    wild.settings("allowed_domains = [\"*\", \"**.localhost\", \"93.184.216.34\"]");
    // Nor do the user's deny entries.
    wild.settings("denied_domains = [\"10.0.0.1\", \"localhost\"]");
}

#[test]
fn c6_two_files_narrow_what_the_daemon_may_be_or_contradict_each_other() {
    let daemon = |text: &str| format!("[experimental_network.daemon]\n{text}");
    let resolver = |text: &str| format!("[experimental_network.daemon.resolver]\n{text}");
    let with = |first: &str, second: &str| {
        let root = Root::requiring(first);
        root.require(OWN, second);
        root
    };
    for (first, second) in [("require", "try"), ("try", "require")] {
        let [first, second] = [first, second].map(|word| daemon(&format!("sandbox = \"{word}\"")));
        let settings = with(&first, &second).settings("");
        assert_eq!(settings.daemon.sandbox, Sandbox::Require);
    }
    let common = with(
        &resolver("nameservers = [\"192.0.2.1\", \"192.0.2.2\"]"),
        &resolver("nameservers = [\"192.0.2.2\", \"192.0.2.3\"]"),
    );
    assert_eq!(servers(&common.settings("")), ["192.0.2.2:53"]);
    for (first, second) in [
        (daemon("user = \"a\""), daemon("user = \"b\"")),
        (
            resolver("nameservers = [\"192.0.2.1\"]"),
            resolver("nameservers = [\"192.0.2.2\"]"),
        ),
        (
            resolver("nameservers = [\"192.0.2.1\"]"),
            resolver("nameservers = []"),
        ),
        (
            resolver("hosts_file = \"/a\""),
            resolver("hosts_file = \"/b\""),
        ),
    ] {
        let root = with(&first, &second);
        let messages = root.messages(&root.sources(""));
        let expected = "leaves no value, since ROOT/etc/codex/requirements.toml:3 requires another";
        assert!(messages.contains(expected), "{second}: {messages}");
        let same = with(&first, &first);
        same.settings("");
    }
}

/// These only narrow, so no requirement bounds them, and none needs to.
#[test]
fn c6_a_stricter_value_is_never_a_violation() {
    let root = Root::requiring(&format!("{ONLY}\n{NO_LOCAL}\nmode = \"limited\""));
    for text in [
        "[network.mitm]\nenabled = false",
        "[network]\nenable_socks5 = false",
        "[network]\nenable_socks5_udp = false",
        "[network]\nallow_upstream_proxy = false",
        "[daemon.admin]\nenabled = false",
        "[daemon]\nsandbox = \"require\"",
        "[daemon.resolver]\ntimeout = \"1s\"",
    ] {
        load(&root.sources(text)).unwrap_or_else(|errors| panic!("{text}: {errors}"));
    }
}
