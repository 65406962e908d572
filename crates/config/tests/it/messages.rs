//! The messages for a wrong configuration (SPEC C4): snapshots.

use codex_network_config::{Sources, load};

/// All messages about each text, in order.
fn messages_about(texts: &[&str]) -> String {
    let mut messages = String::new();
    for text in texts {
        let sources = Sources::none()
            .with_text("config.toml", *text)
            .with_environment(|name| (name == "TOKEN").then(|| "hunter2".into()));
        messages.push_str(&messages_of(&sources));
        messages.push_str("\n----\n");
    }
    messages
}

fn messages_about_overrides(overrides: &[&str]) -> String {
    let mut messages = String::new();
    for assignment in overrides {
        messages.push_str(&messages_of(&Sources::none().with_override(*assignment)));
        messages.push_str("\n----\n");
    }
    messages
}

fn messages_of(sources: &Sources) -> String {
    match load(sources) {
        Err(errors) => errors.to_string(),
        Ok(loaded) => {
            let found = loaded.warnings.iter().chain(&loaded.notes);
            let lines: Vec<String> = found.map(ToString::to_string).collect();
            lines.join("\n")
        }
    }
}

/// SPEC C4: inside our tables an unknown key is an error that names the nearest one.
#[test]
fn c4_unknown_keys_name_the_nearest() {
    let messages = messages_about(&[
        "[network]\n\n\nallowed_domain = [\"x\"]\n",
        "[network]\nmodes = \"full\"\n",
        "[network]\nenable-socks5 = true\n",
        "[network]\nALLOW_LOCAL_BINDING = true\n",
        "[network]\nzzz = 1\n",
        // A known key in the wrong table.
        "[network_proxy]\nallowed_domains = []\n",
        "[network_proxy]\nca_key_path = \"k\"\n",
        "[network]\ndomains = { \"a.example\" = \"allow\" }\n",
        "[network]\nlog = \"debug\"\n",
        "[network]\ndangerously_allow_non_loopback = true\n",
        "[network_proxy.policy]\nallow_local_bindings = true\n",
        "[network_proxy.policy]\nmode = \"limited\"\n",
        "[daemon]\nusers = \"proxy\"\n[daemon.limits]\nmax_conections = 5\n[daemon.resolver]\nhost_file = \"h\"\n",
        "default_permissions = \"dev\"\n[permissions.dev.network]\ndomain = {}\n",
        "[network.mitm]\ninspct = true\n",
        // Not our table, but close to it: it would have no effect.
        "[netwrok]\nmode = \"limited\"\n",
        "[network-proxy]\nmode = \"limited\"\n",
        "default_permission = \"dev\"\n",
    ]);
    insta::assert_snapshot!(messages);
}

#[test]
fn c3_c5_wrong_types_and_ranges() {
    let messages = messages_about(&[
        "[network]\nenabled = \"true\"\n",
        "[network]\nenabled = 1\n",
        "[network]\nmode = \"ful\"\n",
        "[network]\nmode = true\n",
        "[network]\nallowed_domains = \"example.com\"\n",
        "[network]\nallowed_domains = [\"example.com\", 5, [], \"b.example\"]\n",
        "[network]\nproxy_url = 3128\n",
        "[network]\nproxy_url = \" \"\n",
        "network = 5\n",
        "[network_proxy]\npolicy = []\n",
        "[network]\nmitm = \"off\"\n",
        "[[daemon]]\nlog = \"info\"\n",
        "[daemon]\nlog = \"\"\nlog_format = \"xml\"\nuser = 5\n",
        "[daemon.limits]\nmax_connections = 0\nmax_header_bytes = 2_000_000\nblocked_buffer = 9223372036854775808\n",
        "[daemon.limits]\nmax_connections = 1.5\nheader_timeout = 10\nconnect_timeout = \"10\"\nidle_timeout = \"0s\"\ndrain_timeout = \"0s\"\n",
        "[daemon.resolver]\ntimeout = \"2 s\"\nnameservers = [\"ns.example:53\", \"192.0.2.1:0\", \"192.0.2.1\", \"[::1]:5353\"]\n",
        "[daemon.control]\nadministrators = [\"\", \"@\", \"a b\"]\nobservers = \"me\"\n",
        "[daemon]\nstate_dir = 1979-05-27\n",
    ]);
    insta::assert_snapshot!(messages);
}

#[test]
fn p2_bad_patterns_point_at_the_element() {
    let messages = messages_about(&[
        concat!(
            "[network]\n",
            "allowed_domains = [\n",
            "  \"good.example\",\n",
            "  \"https://x.example/path\",\n",
            "  \"x/y\", \"*.\", \"*.*\", # two and three on one line\n",
            "  \"a b\",\n",
            "  \"host.example:443\",\n",
            "  \"\",\n",
            "]\n",
            "denied_domains = [\"*\"]\n",
        ),
        "default_permissions = \"p\"\n[permissions.p.network.domains]\n\"*\" = \"deny\"\n\"x/y\" = \"allow\"\n\"a.example\" = \"alow\"\n\"b.example\" = true\n",
        "[network]\nallowed_domains = [\"*\"]\n",
    ]);
    insta::assert_snapshot!(messages);
}

#[test]
fn c2_dialects_exclude_each_other() {
    let messages = messages_about(&[
        "[network]\nmode = \"full\"\n\n[network_proxy]\nmode = \"limited\"\n",
        "default_permissions = \"dev\"\n[network]\n[permissions.dev.network]\nenabld = true\n[network_proxy]\nx = 1\n",
        "default_permissions = \"dve\"\n[permissions.dev.network]\n[permissions.ci.network]\n",
        "default_permissions = \"dev\"\n",
        "default_permissions = [\"dev\"]\n[permissions.dev.network]\n",
        "[permissions.dev.network]\nallowed_domains = []\n",
        "permissions = 5\n",
        "default_permissions = \"dev\"\n[permissions]\ndev = 5\n",
        "default_permissions = \"dev\"\n[permissions.dev]\nnetwork = false\n",
        "default_permissions = \"dev\"\n[permissions.dev]\nextends = \"base\"\n[permissions.dev.network]\n",
        "default_permissions = \"dev\"\n[permissions.dev.network]\nallowed_domains = [\"a.example\"]\n[permissions.dev.network.domains]\n\"b.example\" = \"allow\"\n",
        "default_permissions = \"dev\"\n[permissions.dev.network]\nallow_unix_sockets = []\ndomains = []\n",
        "[network_proxy]\nallow_local_binding = true\n[network_proxy.policy]\nallow_local_binding = false\n",
        "[network_proxy]\ndangerously_allow_non_loopback = true\ndangerously_allow_non_loopback_proxy = true\n",
    ]);
    insta::assert_snapshot!(messages);
}

/// SPEC C2: old dialects work without complaint; `check` mentions the newest form.
#[test]
fn c2_older_dialects_get_a_note() {
    let messages = messages_about(&[
        "[network_proxy]\n",
        "[network]\n",
        "default_permissions = \"dev\"\n[permissions.dev.network]\nallowed_domains = []\n",
        "default_permissions = \"dev\"\n[permissions.dev.network.domains]\n",
        "",
    ]);
    insta::assert_snapshot!(messages);
}

#[test]
fn l8_l11_listen_addresses() {
    let messages = messages_about(&[
        "[network]\nproxy_url = \"http://0.0.0.0:3128\"\nsocks_url = \"192.0.2.1\"\nadmin_url = \"[2001:db8::1]:9\"\n",
        "[network]\nproxy_url = \"http://0.0.0.0:3128\"\ndangerously_allow_non_loopback_proxy = true\nallow_unix_sockets = [\"/run/docker.sock\"]\n",
        "[network]\nproxy_url = \"http://127.0.0.1:70000\"\nsocks_url = \"3128\"\nadmin_url = \":8080\"\n",
        "[network]\nproxy_url = \"http://[::1:3128\"\nsocks_url = \"ho st:1\"\nadmin_url = \"[::1]x\"\n",
        "[network]\nproxy_url = \"127.0.0.1:8080\"\n",
        "[network]\nproxy_url = \"127.0.0.1:9\"\nsocks_url = \"localhost:9\"\nadmin_url = \"http://proxy.example:9\"\n",
    ]);
    insta::assert_snapshot!(messages);
}

#[test]
fn m9_hooks_and_actions() {
    let messages = messages_about(&[
        concat!(
            "[network.mitm.hooks.a]\n",
            "methods = []\n",
            "path_prefixes = \"/x\"\n",
            "query = { q = [], r = [1] }\n",
            "headers = { accept = [], h = \"x\" }\n",
            "body = {}\n",
            "action = [\"ghost\"]\n",
            "hots = \"x\"\n",
            "[network.mitm.hooks.b]\n",
            "host = \"*.example.com\"\n",
            "[network.mitm.hooks]\n",
            "c = 5\n",
        ),
        concat!(
            "[network.mitm.hooks.a]\n",
            "host = \"api.example.com\"\n",
            "methods = [\"GET\", \"\", \"connect\", \"GET POST\"]\n",
            "path_prefixes = [\"v1/\", \"/a?b\", \"/a/../b\", \"pattern:/a/**\", \"/a/*/b\", \"pattern:/x[1]\", \"/100%\"]\n",
            "query = { q = [\"pattern:a?\", \"\"] }\n",
            "headers = { Accept = [\"a\\nb\"], accept = [], \"a b\" = [] }\n",
            "action = [\"auth\"]\n",
            "[network.mitm.actions.auth]\n",
            "strip_request_headers = [\"Host\", \"a:b\", \"authorization\"]\n",
            "add = 1\n",
            "[[network.mitm.actions.auth.inject_request_headers]]\n",
            "name = \"authorization\"\n",
            "[[network.mitm.actions.auth.inject_request_headers]]\n",
            "secret_env_var = \"TOKEN\"\n",
            "secret_file = \"token\"\n",
            "[network.mitm.actions.other]\n",
            "inject_request_headers = [5]\n",
            "[network.mitm.actions.none]\n",
            "inject_request_headers = []\n",
            "strip_request_headers = []\n",
            "[network.mitm.actions.nothing]\n",
        ),
        concat!(
            "[network.mitm.actions.framing]\n",
            "inject_request_headers = [\n",
            "  { name = \"Host\", secret_env_var = \"TOKEN\" },\n",
            "  { name = \"content-length\", secret_env_var = \"TOKEN\" },\n",
            "  { name = \"Proxy-Authorization\", secret_env_var = \"TOKEN\" },\n",
            "  { name = \"x-unix-socket\", secret_env_var = \"TOKEN\" },\n",
            "  { name = \"X_HTTP_Method_Override\", secret_env_var = \"TOKEN\" },\n",
            "  { name = \"x:y\", secret_env_var = \"TOKEN\" },\n",
            "  { name = \"x-key\", secret_env_var = \"TOKEN\", prefix = \"a\\nb\" },\n",
            "  { name = \"x-key\", secret_env_var = \"TOKEN\", prefix = \" Bearer\" },\n",
            "  { name = \"x-key\", secret_env_var = \"GITHUB_TOKEN\" },\n",
            "  { name = \"x-key\", secret_file = \"/nowhere/token\" },\n",
            "  { name = \"x-key\", secret_file = \"/\" },\n",
            "]\n",
        ),
        // The text here may be the secret, so no line is shown.
        concat!(
            "[[network.mitm.actions.a.inject_request_headers]]\n",
            "name = \"authorization\"\n",
            "value = \"hunter2\"\n",
            "[network.mitm.actions.b]\n",
            "inject_request_headers = [{ name = \"te\", secret = \"hunter2\" }, { name = \"a\", tokn = \"hunter2\", prefx = 5 }]\n",
            "[network.mitm.actions.c]\n",
            "inject_request_headers = [\"hunter2\"]\n",
        ),
        "[network.mitm]\nca_cert_path = \"ca.pem\"\n",
        "[network.mitm]\nca_key_path = \"ca.key\"\nmax_body_bytes = -1\n",
    ]);
    assert!(!messages.contains("hunter2"), "SPEC B4");
    insta::assert_snapshot!(messages);
}

#[test]
fn h10_settings_without_effect_are_warnings() {
    let messages = messages_about(&[
        concat!(
            "default_permissions = \"p\"\n",
            "[permissions.p.network]\n",
            "enable_socks5_udp = true\n",
            "credential_broker = true\n",
            "dangerously_allow_plaintext_credential_injection = true\n",
            "dangerously_allow_all_unix_sockets = true\n",
            "unix_sockets = { \"/run/a\" = \"allow\" }\n",
            "[permissions.p.network.mitm]\n",
            "enabled = true\n",
            "inspect = true\n",
            "ca_cert_path = \"ca.pem\"\n",
            "ca_key_path = \"ca.key\"\n",
        ),
        // When it is off, nothing is missing.
        concat!(
            "default_permissions = \"p\"\n",
            "[permissions.p.network]\n",
            "enable_socks5_udp = false\n",
            "credential_broker = false\n",
            "mitm = false\n",
            "unix_sockets = { \"/run/a\" = \"deny\", \"/run/b\" = \"none\" }\n",
        ),
        "[network]\nallow_unix_sockets = [\"/run/a\", \"relative\"]\n",
    ]);
    insta::assert_snapshot!(messages);
}

#[test]
fn c4_syntax_errors_have_the_same_form() {
    let messages = messages_about(&[
        "[network\nmode = \"full\"\n",
        "[network]\nmode = full\n",
        "[network]\nmode = \"full\nenabled = true\n",
        "[network]\nmode = \"full\"\nmode = \"limited\"\n",
        "[network]\n[network]\n",
        "[network]\nallowed_domains = [\"a\"\n",
        "= 5\n\n\nx y\n",
        "mode",
        "[network]\nproxy_url = http://127.0.0.1:1\nallowed_domains = [*.example.com, b.example]\n",
        "[daemon.limits]\nidle_timeout = 10s\n",
        // A byte order mark does not count as a column.
        "\u{feff}[network\n",
    ]);
    insta::assert_snapshot!(messages);
}

#[test]
fn c1_overrides() {
    let messages = messages_about_overrides(&[
        "network.mode",
        "=5",
        ".a=5",
        "network.mode=limitd",
        "network.modes=full",
        "network.allowed_domains=example.com",
        "network.allowed_domains=[\"ok.example\", \"no/t\"]",
        "permissions.\"a = b\".network.enabled = true",
        "network.\nmode=1",
        "network . enabled =   \"yes\"   ",
        "# x",
        "#=5",
    ]);
    insta::assert_snapshot!(messages);
}

/// Excerpts: long lines are cut around the place, tabs and unprintable characters cannot disturb a
/// terminal, and the caret points at the right characters.
#[test]
fn c4_excerpts_are_cut_and_escaped() {
    let long = format!(
        "[network]\nallowed_domains = [{} \"bad/one\", {}]\n",
        "\"good.example\", ".repeat(50),
        "\"good.example\", ".repeat(50)
    );
    let long_key = format!("[network]\n{} = 1\n", "k".repeat(300));
    let wide = "[network]\nallowed_domains = [\"ünïcödé.example\", \"a/b\"]\n";
    let messages = messages_about(&[
        &long,
        &long_key,
        wide,
        "[network]\n\t\tmodes\t=\t1\n",
        "[network]\r\nmodes = 1\r\n",
        "[network]\nallowed_domains = [\"\u{202e}evil\u{2066}/x\"]\n",
        "[network]\n\"es\\u001b[31mc\" = 1\n",
        "[network]\nallowed_domains = [\"\u{1b}[31m\"]\n",
        "[network]\nallowed_domains = [\"\"\"\na\nb/c\"\"\"]\n",
    ]);
    insta::assert_snapshot!(messages);
}

/// Problems are counted and not all listed: the message stays readable and its cost bounded.
#[test]
fn c4_a_flood_of_problems_is_capped() {
    let bad: Vec<String> = (0..1000).map(|n| format!("\"bad/{n}\"")).collect();
    let text = format!("[network]\nallowed_domains = [\n{}]\n", bad.join(",\n"));
    let sources = Sources::none().with_text("config.toml", text);
    let errors = load(&sources).expect_err("no pattern is good");
    assert_eq!(errors.error_count(), 1000);
    assert_eq!(errors.iter().count(), 100);
    let messages = errors.to_string();
    assert!(messages.ends_with("\nand 900 more errors"), "{messages}");
    assert!(messages.len() < 20_000);
    insta::assert_snapshot!(
        errors.one_line(),
        @"config.toml:3:1: bad pattern `bad/0`: a pattern names a host: it has no path and no address range (`/`) (and 999 more errors)"
    );
}

/// SPEC C4: all problems at once, in the order of the text.
#[test]
fn c4_problems_come_all_at_once_and_in_order() {
    let text = "[daemon]\nlogs = 1\n[network]\nmode = \"x\"\nproxy_url = \"http://0.0.0.0\"\ndenied_domains = [\"*\"]\n[daemon.limits]\nmax_connections = 0\n";
    let messages = messages_about(&[text]);
    insta::assert_snapshot!(messages);
}
