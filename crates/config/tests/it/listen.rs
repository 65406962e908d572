//! Listen addresses: the meaning of a URL (SPEC L11), and clamping to loopback (SPEC L8).

use std::net::SocketAddr;

use codex_network_config::{Listen, Loaded, Sources, load};

/// Text and address, with 3128 as the default port. Exposed addresses are opted in.
const URLS: &[(&str, &str)] = &[
    ("http://127.0.0.1:4000", "127.0.0.1:4000"),
    ("http://127.0.0.1:4000/", "127.0.0.1:4000"),
    (
        "http://127.0.0.1:4000/path?query#fragment",
        "127.0.0.1:4000",
    ),
    ("http://127.0.0.1:4000?q=http://[::1]:1", "127.0.0.1:4000"),
    ("https://127.0.0.1:4000", "127.0.0.1:4000"),
    ("socks5h://127.0.0.1:4000", "127.0.0.1:4000"),
    ("anything://127.0.0.1:4000", "127.0.0.1:4000"),
    ("127.0.0.1:4000", "127.0.0.1:4000"),
    (" 127.0.0.1:4000 ", "127.0.0.1:4000"),
    // The default port.
    ("http://127.0.0.1", "127.0.0.1:3128"),
    ("http://127.0.0.1/", "127.0.0.1:3128"),
    ("http://127.0.0.1:/", "127.0.0.1:3128"),
    ("127.0.0.1", "127.0.0.1:3128"),
    ("localhost", "127.0.0.1:3128"),
    // Any free port.
    ("127.0.0.1:0", "127.0.0.1:0"),
    // Names mean loopback.
    ("localhost:5", "127.0.0.1:5"),
    ("LOCALHOST.:5", "127.0.0.1:5"),
    ("http://proxy.example.com:5", "127.0.0.1:5"),
    ("proxy", "127.0.0.1:3128"),
    // User information is ignored, whatever it holds.
    ("http://user:pass@127.0.0.1:5", "127.0.0.1:5"),
    ("http://user@[::1]:5", "[::1]:5"),
    ("a@b@127.0.0.1:5", "127.0.0.1:5"),
    ("http://[::1]:9@127.0.0.1:5", "127.0.0.1:5"),
    // IPv6, bracketed and bare.
    ("[::1]", "[::1]:3128"),
    ("[::1]:5", "[::1]:5"),
    ("[::1]:", "[::1]:3128"),
    ("http://[::1]:5/", "[::1]:5"),
    ("::1", "[::1]:3128"),
    ("http://::1/", "[::1]:3128"),
    ("::1:5", "[::1:5]:3128"),
    ("1:2:3:4:5:6:7:8:99", "[1:2:3:4:5:6:7:8]:99"),
    ("::ffff:127.0.0.1", "127.0.0.1:3128"),
    ("[fe80::1%3]:5", "[fe80::1%3]:5"),
    ("[fe80::1%253]:5", "[fe80::1%3]:5"),
    // Every spelling of an IPv4 address, as at the doors (SPEC P1).
    ("0x7f.1:5", "127.0.0.1:5"),
    ("192.0.2.1:5", "192.0.2.1:5"),
    ("0.0.0.0", "0.0.0.0:3128"),
    ("[::]:5", "[::]:5"),
];

const NOT_URLS: &[&str] = &[
    "http://",
    "http:///path",
    ":5",
    "@:5",
    "5",
    "3128",
    "http://3128",
    "127.0.0.1:x",
    "127.0.0.1:-1",
    "127.0.0.1:+1",
    "127.0.0.1:65536",
    "127.0.0.1:99999999999999999999",
    "[::1",
    "[::1]5",
    "[]:5",
    "[127.0.0.1]:5",
    "::1::2",
    "256.0.0.1:5",
    "a b:5",
    "a%20b:5",
    "a..b:5",
    "[fe80::1%eth0]:5",
];

fn loaded(keys: &str) -> Loaded {
    let text = format!("[network]\n{keys}\n");
    match load(&Sources::none().with_text("config.toml", &*text)) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{errors}"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn l11_only_host_and_port_of_a_url_count() {
    for (url, expected) in URLS {
        let keys = format!("dangerously_allow_non_loopback_proxy = true\nproxy_url = {url:?}");
        assert_eq!(
            loaded(&keys).settings.listen.http,
            address(expected),
            "{url}"
        );
    }
}

#[test]
fn l11_other_texts_are_not_addresses() {
    for url in NOT_URLS {
        let text = format!("[network]\nproxy_url = {url:?}\n");
        let errors = load(&Sources::none().with_text("config.toml", text)).expect_err(url);
        assert_eq!(errors.error_count(), 1, "{url}: {errors}");
        assert!(
            errors
                .one_line()
                .starts_with("config.toml:2:13: `proxy_url`: "),
            "{errors}"
        );
    }
}

#[test]
fn l11_each_listener_has_its_own_default_port() {
    let keys = "proxy_url = \"localhost\"\nsocks_url = \"localhost\"\nadmin_url = \"localhost\"";
    assert_eq!(loaded(keys).settings.listen, Listen::default());
}

/// Which listeners keep an address that is not loopback, by their opt-ins.
#[test]
fn l8_other_addresses_are_clamped_to_loopback() {
    const PROXY: &str = "dangerously_allow_non_loopback_proxy = true\n";
    const ADMIN: &str = "dangerously_allow_non_loopback_admin = true\n";
    const SOCKET: &str = "allow_unix_sockets = [\"/run/x\"]\n";
    const ALL_SOCKETS: &str = "dangerously_allow_all_unix_sockets = true\n";
    let cases: [(&[&str], [bool; 3]); 9] = [
        (&[], [false, false, false]),
        (&[PROXY], [true, true, false]),
        (&[ADMIN], [false, false, true]),
        (&[PROXY, ADMIN], [true, true, true]),
        (&[PROXY, ADMIN, SOCKET], [false, false, false]),
        (&[PROXY, ADMIN, ALL_SOCKETS], [false, false, false]),
        (
            &[PROXY, ADMIN, "allow_unix_sockets = []\n"],
            [true, true, true],
        ),
        (
            &["dangerously_allow_non_loopback_proxy = false\n"],
            [false, false, false],
        ),
        (&[PROXY, "enable_socks5 = false\n"], [true, true, false]),
    ];
    for host in [
        "0.0.0.0",
        "192.0.2.7",
        "10.0.0.1",
        "[::]",
        "[2001:db8::1]",
        "[fe80::1]",
    ] {
        let urls = format!(
            "proxy_url = \"{host}:1\"\nsocks_url = \"{host}:2\"\nadmin_url = \"{host}:3\"\n"
        );
        for (keys, kept) in cases {
            let loaded = loaded(&format!("{urls}{}", keys.concat()));
            let listen = loaded.settings.listen;
            let expect = |kept: bool, port: u16| {
                if kept {
                    address(&format!("{host}:{port}"))
                } else {
                    address(&format!("127.0.0.1:{port}"))
                }
            };
            assert_eq!(listen.http, expect(kept[0], 1), "{host} {keys:?}");
            let socks5 = listen.socks5.unwrap_or(expect(kept[1], 2));
            assert_eq!(socks5, expect(kept[1], 2), "{host} {keys:?}");
            assert_eq!(listen.admin, Some(expect(kept[2], 3)), "{host} {keys:?}");
            let clamps = loaded
                .warnings
                .iter()
                .filter(|found| found.message.contains("will listen on"));
            let clamped = kept.iter().filter(|kept| !**kept).count();
            assert_eq!(
                clamps.count(),
                clamped,
                "each clamp is reported: {host} {keys:?}"
            );
        }
    }
}

#[test]
fn l8_loopback_is_never_clamped() {
    for host in ["127.0.0.1", "127.255.255.254", "[::1]"] {
        let loaded = loaded(&format!(
            "proxy_url = \"{host}:1\"\ndangerously_allow_all_unix_sockets = true"
        ));
        assert_eq!(loaded.settings.listen.http, address(&format!("{host}:1")));
    }
}

/// The default addresses and the optional listeners.
#[test]
fn l2_a2_listeners_can_be_left_out() {
    let listen = loaded("enable_socks5 = false\n[daemon.admin]\nenabled = false")
        .settings
        .listen;
    assert_eq!(listen.socks5, None);
    assert_eq!(listen.admin, None);
}

#[test]
fn l11_two_listeners_cannot_share_an_address() {
    let collides = |keys: &str| {
        let text = format!(
            "[network]\ndangerously_allow_non_loopback_proxy = true\ndangerously_allow_non_loopback_admin = true\n{keys}\n"
        );
        match load(&Sources::none().with_text("config.toml", text)) {
            Ok(_) => false,
            Err(errors) => {
                assert!(
                    errors.one_line().contains("would both listen on"),
                    "{errors}"
                );
                true
            }
        }
    };
    assert!(collides("proxy_url = \"127.0.0.1:8081\""));
    assert!(collides(
        "proxy_url = \"127.0.0.1:1\"\nadmin_url = \"localhost:1\""
    ));
    assert!(collides(
        "proxy_url = \"0.0.0.0:1\"\nadmin_url = \"127.0.0.1:1\""
    ));
    assert!(collides(
        "proxy_url = \"[::]:1\"\nadmin_url = \"127.0.0.1:1\""
    ));
    assert!(collides("proxy_url = \"[::]:1\"\nadmin_url = \"[::1]:1\""));
    assert!(!collides(
        "proxy_url = \"0.0.0.0:1\"\nadmin_url = \"[::1]:1\""
    ));
    assert!(!collides(
        "proxy_url = \"127.0.0.1:1\"\nadmin_url = \"127.0.0.2:1\""
    ));
    assert!(!collides(
        "proxy_url = \"127.0.0.1:0\"\nadmin_url = \"127.0.0.1:0\""
    ));
    assert!(!collides(
        "proxy_url = \"127.0.0.1:8081\"\nenable_socks5 = false"
    ));
    assert!(!collides(
        "socks_url = \"127.0.0.1:8080\"\n[daemon.admin]\nenabled = false"
    ));
    // After the clamp.
    let text = "[network]\nproxy_url = \"192.0.2.1:1\"\nsocks_url = \"192.0.2.2:1\"\n";
    let clamped = load(&Sources::none().with_text("config.toml", text));
    assert!(clamped.is_err());
}
