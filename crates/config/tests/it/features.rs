//! The fifth form, `[features.network_proxy]`, and the merging of maps (SPEC C8, C11).

use codex_network_config::{Settings, Sources, load};

fn sources(texts: &[&str]) -> Sources {
    let mut sources = Sources::none();
    for (index, text) in texts.iter().enumerate() {
        sources = sources.with_text(format!("{index}.toml"), *text);
    }
    sources
}

fn settings(texts: &[&str]) -> Settings {
    match load(&sources(texts)) {
        Ok(loaded) => loaded.settings,
        Err(errors) => panic!("{texts:?}: {errors}"),
    }
}

/// The lists in short: `+allowed -denied`.
fn lists(settings: &Settings) -> String {
    let policy = &settings.policy;
    let allowed = policy
        .allowed()
        .rules()
        .map(|rule| format!("+{}", rule.pattern));
    let denied = policy
        .denied()
        .rules()
        .map(|rule| format!("-{}", rule.pattern));
    let mut all: Vec<String> = allowed.chain(denied).collect();
    all.sort();
    all.join(" ")
}

fn messages(texts: &[&str]) -> String {
    match load(&sources(texts)) {
        Err(errors) => errors.to_string(),
        Ok(loaded) => {
            let found = loaded.warnings.iter().chain(&loaded.notes);
            let lines: Vec<String> = found.map(ToString::to_string).collect();
            lines.join("\n")
        }
    }
}

/// A profile in the form with maps.
const PROFILE: &str = r#"
default_permissions = "dev"
[permissions.dev.network]
mode = "limited"
allow_local_binding = true
enable_socks5 = false
[permissions.dev.network.domains]
"a.example" = "allow"
"b.example" = "allow"
"c.example" = "deny"
[permissions.dev.network.unix_sockets]
"/run/a" = "allow"
[permissions.dev.network.credentials.one]
env = "ONE"
url_prefixes = ["https://a.example"]
auth = "header"
header = "x-one"
"#;

#[test]
fn c8_the_form_alone_is_a_dialect_with_each_of_its_keys() {
    let settings = settings(&[r#"
[features.network_proxy]
enabled = true
proxy_url = "http://127.0.0.1:4001"
enable_socks5 = true
socks_url = "http://127.0.0.1:4002"
enable_socks5_udp = false
allow_upstream_proxy = false
dangerously_allow_non_loopback_proxy = false
dangerously_allow_all_unix_sockets = false
mode = "limited"
allow_local_binding = true
credential_broker = true
domains = { "a.example" = "allow", "b.example" = "deny" }
unix_sockets = { "/run/a" = "allow" }
[features.network_proxy.credentials.mine]
env = "MINE"
url_prefixes = ["https://a.example"]
[features]
another_feature = true
"#]);
    assert_eq!(lists(&settings), "+a.example -b.example");
    assert_eq!(settings.listen.http.port(), 4001);
    assert_eq!(
        settings.listen.socks5.map(|address| address.port()),
        Some(4002)
    );
    assert!(!settings.socks5_udp && !settings.allow_upstream_proxy);
    assert!(settings.policy.allows_local_binding() && settings.credential_broker);
    assert_eq!(settings.policy.mode().as_str(), "limited");
    assert_eq!(settings.unix_sockets.allowed.len(), 1);
    assert_eq!(settings.credential_providers[0].id.as_str(), "mine");
    assert!(settings.profiles.is_empty());
}

#[test]
fn c8_a_switch_alone_switches_the_proxy() {
    assert!(
        settings(&["features.network_proxy = true\n"])
            .policy
            .is_enabled()
    );
    assert!(
        !settings(&["[features]\nnetwork_proxy = false\n"])
            .policy
            .is_enabled()
    );
    assert!(
        !settings(&[PROFILE, "features.network_proxy = false\n"])
            .policy
            .is_enabled()
    );
    let on = settings(&[PROFILE, "features.network_proxy = true\n"]);
    assert!(on.policy.is_enabled());
    assert_eq!(lists(&on), "+a.example +b.example -c.example");
}

#[test]
fn c8_a_switch_in_a_later_layer_keeps_the_rules_of_an_earlier_one() {
    let rules =
        "[features.network_proxy]\nenabled = false\ndomains = { \"a.example\" = \"deny\" }\n";
    let both = settings(&[rules, "features.network_proxy = true\n"]);
    assert!(both.policy.is_enabled());
    assert_eq!(lists(&both), "-a.example");
    let both = settings(&["features.network_proxy = true\n", rules]);
    assert!(!both.policy.is_enabled());
    let overridden = sources(&[rules]).with_override("features.network_proxy=true");
    let overridden = load(&overridden).expect("no error").settings;
    assert!(overridden.policy.is_enabled());
    assert_eq!(lists(&overridden), "-a.example");
}

#[test]
fn c8_the_form_lies_over_the_selected_profile() {
    let over = r#"
[features.network_proxy]
mode = "full"
[features.network_proxy.domains]
"B.example." = "deny"
"c.example" = "allow"
"d.example" = "allow"
[features.network_proxy.unix_sockets]
"/run//a" = "deny"
"/run/b" = "allow"
[features.network_proxy.credentials.one]
env = "ONE"
url_prefixes = ["https://d.example"]
[features.network_proxy.credentials.two]
env = "TWO"
url_prefixes = ["https://a.example"]
"#;
    // Whichever layer has it.
    for texts in [[PROFILE, over], [over, PROFILE]] {
        let settings = settings(&texts);
        assert_eq!(
            lists(&settings),
            "+a.example +c.example +d.example -b.example"
        );
        assert_eq!(settings.policy.mode().as_str(), "full");
        assert!(
            settings.policy.allows_local_binding(),
            "unset there, so the profile's counts"
        );
        assert_eq!(settings.listen.socks5, None);
        assert_eq!(
            settings.unix_sockets.allowed,
            [std::path::Path::new("/run/b")]
        );
        assert_eq!(settings.unix_sockets.denied.len(), 1);
        assert_eq!(settings.profiles.len(), 1);
    }
    let on = format!("{over}\n[features.network_proxy]\n").replace(
        "mode = \"full\"",
        "mode = \"full\"\ncredential_broker = true",
    );
    let on = on.trim_end().trim_end_matches("[features.network_proxy]");
    let providers = settings(&[PROFILE, on]).credential_providers;
    let one = &providers[0];
    assert_eq!(
        one.placements[0].to_string(),
        "bearer",
        "an entry replaces the whole one"
    );
    assert_eq!(one.destinations[0].to_string(), "https://d.example");
    assert_eq!(providers[1].id.as_str(), "two");
}

#[test]
fn c8_the_form_lies_over_a_profile_with_lists() {
    let profile = "default_permissions = \"dev\"\n[permissions.dev.network]\nallowed_domains = [\"a.example\", \"b.example\", \"c.example\", \"c.example\"]\ndenied_domains = [\"c.example\"]\nallow_unix_sockets = [\"/run/a\"]\n";
    let over =
        "[features.network_proxy.domains]\n\"A.example\" = \"none\"\n\"d.example\" = \"deny\"\n";
    let settings = settings(&[profile, over]);
    assert_eq!(lists(&settings), "+b.example -c.example -d.example");
    assert_eq!(settings.unix_sockets.allowed.len(), 1);
}

#[test]
fn c8_a_profile_of_codex_lies_over_both() {
    let codex = r#"
profile = "work"
[features.network_proxy.domains]
"a.example" = "deny"
[profiles.work]
model = "m"
[profiles.work.features.network_proxy.domains]
"a.example" = "none"
"w.example" = "allow"
[profiles.other.features.network_proxy.domains]
"o.example" = "allow"
"#;
    assert_eq!(
        lists(&settings(&[PROFILE, codex])),
        "+b.example +w.example -c.example"
    );
    let switch = "profile = \"work\"\nprofiles.work.features.network_proxy = false\n";
    assert!(!settings(&[PROFILE, switch]).policy.is_enabled());
    // Without a choice, and with one that has no such table, only the others count.
    for text in [
        "[profiles.work.features]\nnetwork_proxy = false\n",
        "profile = \"gone\"\n",
    ] {
        assert!(settings(&[PROFILE, text]).policy.is_enabled(), "{text}");
    }
}

#[test]
fn c8_the_form_lies_over_the_profile_that_a_session_chooses() {
    let other = "[permissions.ci.network.domains]\n\"ci.example\" = \"allow\"\n";
    let over = "[features.network_proxy.domains]\n\"evil.example\" = \"deny\"\n";
    let settings = settings(&[PROFILE, other, over]);
    let ci = settings.with_profile("ci").expect("a profile");
    assert_eq!(lists(&ci), "+ci.example -evil.example");
}

#[test]
fn c8_a_profile_without_network_rules_leaves_the_form_alone() {
    for selector in [
        "default_permissions = \":workspace\"\n",
        "default_permissions = \"dev\"\n[permissions.dev.filesystem]\n",
    ] {
        let over = "[features.network_proxy.domains]\n\"a.example\" = \"allow\"\n";
        assert_eq!(lists(&settings(&[selector, over])), "+a.example");
    }
}

#[test]
fn c8_messages() {
    let over = "[features.network_proxy]\nmode = \"limited\"\n";
    let sets: &[&[&str]] = &[
        &[
            "[features.network_proxy]\nmodes = \"full\"\nallowed_domains = []\nmitm = true\nadmin_url = \"x\"\n",
        ],
        &[
            PROFILE,
            "[features.network_proxy]\nmode = 5\ndomains = []\nadmin_url = \"127.0.0.1:1\"\n",
        ],
        &["features.network_proxy = \"on\"\n"],
        &[over, "[network]\n"],
        &["[network_proxy]\n", over],
        &[PROFILE, over, "[network]\n"],
        &["[features.network-proxy]\n"],
        // A profile that nothing selects.
        &[over, "[permissions.dev.network]\n"],
        &["default_permissions = \"gone\"\n", over],
        // The lists of the profile are judged as before.
        &[
            "default_permissions = \"dev\"\n[permissions.dev.network]\nallowed_domains = [5, \"x/y\"]\n",
            "[features.network_proxy.domains]\n\"a.example\" = \"allow\"\n",
        ],
    ];
    let mut all = String::new();
    for texts in sets {
        all.push_str(&messages(texts));
        all.push_str("\n----\n");
    }
    insta::assert_snapshot!(all);
}

#[test]
fn c11_none_cancels_an_entry_of_an_earlier_layer_in_any_spelling() {
    let header = "default_permissions = \"dev\"\n[permissions.dev.network.domains]\n";
    let first = format!("{header}\"Example.COM.\" = \"allow\"\n\"b.example\" = \"deny\"\n");
    for (later, expected) in [
        ("\"example.com\" = \"none\"\n", "-b.example"),
        ("\"EXAMPLE.com\" = \"none\"\n\"B.example\" = \"none\"\n", ""),
        ("\"example.com\" = \"deny\"\n", "-b.example -example.com"),
        ("\"B.EXAMPLE\" = \"allow\"\n", "+b.example +example.com"),
    ] {
        let later = format!("[permissions.dev.network.domains]\n{later}");
        assert_eq!(lists(&settings(&[&first, &later])), expected, "{later}");
        // An earlier layer cancels nothing.
        assert_eq!(
            lists(&settings(&[&later, &first])),
            "+example.com -b.example",
            "{later}"
        );
    }
    let one = format!(
        "{header}\"a.example\" = \"none\"\n\"A.example\" = \"allow\"\n\"b.example\" = \"allow\"\n\"B.example\" = \"deny\"\n"
    );
    assert_eq!(
        lists(&settings(&[&one])),
        "+a.example -b.example",
        "in one layer none < allow < deny"
    );
}

#[test]
fn c11_none_cancels_a_socket_in_any_spelling() {
    let text = |entry: &str| {
        format!("default_permissions = \"dev\"\n[permissions.dev.network.unix_sockets]\n{entry}\n")
    };
    let settings = settings(&[
        &text("\"/run//a\" = \"deny\""),
        &text("\"/run/a\" = \"none\""),
    ]);
    assert!(settings.unix_sockets.denied.is_empty());
}

#[test]
fn c11_an_unset_switch_is_false_only_at_the_end() {
    for key in ["allow_local_binding", "dangerously_allow_all_unix_sockets"] {
        let is_on = |settings: &Settings| match key {
            "allow_local_binding" => settings.policy.allows_local_binding(),
            _ => settings.unix_sockets.allow_all,
        };
        let on =
            format!("default_permissions = \"dev\"\n[permissions.dev.network]\n{key} = true\n");
        let off = format!("[features.network_proxy]\n{key} = false\n");
        assert!(!is_on(&settings(&[""])), "{key}");
        assert!(
            is_on(&settings(&[
                &on,
                "[permissions.dev.network]\nmode = \"full\"\n"
            ])),
            "{key}"
        );
        assert!(
            is_on(&settings(&[
                &on,
                "[features.network_proxy]\nmode = \"full\"\n"
            ])),
            "{key}"
        );
        assert!(!is_on(&settings(&[&on, &off])), "{key}");
        let child = on.replace("\"dev\"", "\"child\"") + "[permissions.child]\nextends = \"dev\"\n";
        assert!(is_on(&settings(&[&child])), "{key}");
    }
}
