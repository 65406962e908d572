//! Tables of environments, correct and wrong, with the findings for each.

use super::super::finding::Verdict::{Note, Ok, Problem};
use super::*;

const DOORS: ProxyAddresses = ProxyAddresses {
    http: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3128),
    socks5: Some(SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        8081,
    )),
};

fn variables(given: &[(&str, &str)]) -> Variables {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    given.iter().map(owned).collect()
}

#[test]
fn b1_the_proxy_that_a_variable_names_is_judged() {
    let http = DOORS.http;
    for (value, leads) in [
        ("http://127.0.0.1:3128", ProxyTarget::ThisProxy),
        ("http://127.0.0.1:3128/", ProxyTarget::ThisProxy),
        ("HTTP://localhost:3128", ProxyTarget::ThisProxy),
        ("127.0.0.1:3128", ProxyTarget::ThisProxy),
        (
            "http://codex-net-attempt-7:x@127.0.0.1:3128",
            ProxyTarget::ThisProxy,
        ),
        ("socks5h://127.0.0.1:8081", ProxyTarget::ThisProxy),
        ("socks5://127.0.0.1:8081", ProxyTarget::ThisProxyByAddress),
        ("http://127.0.0.1:3129", ProxyTarget::Elsewhere),
        ("http://127.0.0.1", ProxyTarget::Elsewhere),
        ("http://127.0.0.2:3128", ProxyTarget::Elsewhere),
        ("http://proxy.example:3128", ProxyTarget::Elsewhere),
        (
            "http://127.0.0.1:3128@proxy.example:3128",
            ProxyTarget::Elsewhere,
        ),
        ("http://[::1]:3128", ProxyTarget::Elsewhere),
        ("", ProxyTarget::Elsewhere),
    ] {
        assert_eq!(target(value, http, DOORS.socks5), leads, "{value:?}");
    }
    for value in [
        "https://127.0.0.1:3128",
        "socks5h://127.0.0.1:3128",
        "http://127.0.0.1:8081",
        "socks4://127.0.0.1:8081",
    ] {
        let found = target(value, http, DOORS.socks5);
        assert!(
            matches!(found, ProxyTarget::WrongProtocol(_)),
            "{value}: {found:?}"
        );
    }
    let anywhere = "0.0.0.0:3128".parse().expect("an address");
    assert_eq!(
        target("http://[::1]:3128", anywhere, None),
        ProxyTarget::ThisProxy
    );
    assert_eq!(
        target("socks5h://127.0.0.1:8081", http, None),
        ProxyTarget::Elsewhere
    );
}

#[test]
fn b1_a_shell_is_judged_as_a_whole() {
    const HERE: &str = "http://127.0.0.1:3128";
    for (given, wanted) in [
        (&[][..], &[(Note, "no proxy variable is set")][..]),
        (
            &[("http_proxy", HERE), ("https_proxy", HERE)],
            &[(Ok, "set to this proxy: http_proxy, https_proxy")],
        ),
        (
            &[("HTTP_PROXY", HERE), ("HTTPS_PROXY", HERE)],
            &[(Ok, "HTTP_PROXY, HTTPS_PROXY"), (Note, "lower case")],
        ),
        (
            &[("all_proxy", "socks5h://127.0.0.1:8081")],
            &[(Ok, "set to this proxy: all_proxy")],
        ),
        (
            &[("http_proxy", HERE)],
            &[(Ok, "http_proxy"), (Note, "HTTPS_PROXY is not set")],
        ),
        (
            &[("https_proxy", HERE)],
            &[(Ok, "https_proxy"), (Note, "HTTP_PROXY is not set")],
        ),
        (
            &[
                ("http_proxy", HERE),
                ("https_proxy", "http://corp.example:8080"),
            ],
            &[
                (Ok, "set to this proxy: http_proxy"),
                (Problem, "does not name"),
            ],
        ),
    ] {
        let found = proxies(&variables(given), DOORS);
        assert_eq!(found.len(), wanted.len(), "{given:?}: {found:?}");
        for (found, (verdict, text)) in found.iter().zip(wanted) {
            assert_eq!(found.verdict, *verdict, "{given:?}: {found:?}");
            assert!(found.found.contains(text), "{text}: {found:?}");
        }
    }
}

#[test]
fn b4_credentials_in_variables_are_never_shown() {
    let shell = variables(&[
        ("HTTPS_PROXY", "http://me:hunter2@corp.example:8080"),
        ("https_proxy", "me:hunter2@other.example:8080"),
    ]);
    let found = [proxies(&shell, DOORS), case_conflicts(&shell)].concat();
    assert!(found.len() >= 3, "{found:?}");
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    // Nor in the advice.
    for scheme in ["socks5", "SOCKS5", "socks4", "https", "http"] {
        for port in [3128, 8081, 9] {
            let value = format!("{scheme}://me:hunter2@127.0.0.1:{port}");
            let found = proxies(&variables(&[("ALL_PROXY", &value)]), DOORS);
            assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
        }
    }
}

#[test]
fn b1_the_advice_for_socks5_is_socks5h() {
    for value in ["socks5://x:y@127.0.0.1:8081", "SOCKS5://127.0.0.1:8081"] {
        let found = proxies(&variables(&[("all_proxy", value)]), DOORS);
        assert_eq!(
            found[0].advice.as_deref(),
            Some(r#"export all_proxy="socks5h://${all_proxy#*://}""#)
        );
    }
}

#[test]
fn b1_upper_and_lower_case_must_agree() {
    let disagree = |one: &str, other: &str| {
        case_conflicts(&variables(&[("NO_PROXY", one), ("no_proxy", other)])).len()
    };
    assert_eq!(disagree("localhost", "localhost"), 0);
    assert_eq!(disagree("localhost", "*"), 1);
    assert!(case_conflicts(&variables(&[("NO_PROXY", "*")])).is_empty());
}

#[test]
fn b1_no_proxy_may_name_this_machine_only() {
    for (value, local, wide) in [
        ("localhost,127.0.0.1,::1", LocalAddresses::Judged, None),
        (
            "localhost 127.0.0.1,.localhost,*.localhost,a.localhost",
            LocalAddresses::Judged,
            None,
        ),
        (
            "127.0.0.0/8,[::1],::1/128,127.0.0.1:8080,localhost:80",
            LocalAddresses::Judged,
            None,
        ),
        ("*", LocalAddresses::Judged, Some("everything")),
        ("localhost,*", LocalAddresses::MayBypass, Some("everything")),
        ("127.0.0.0/7", LocalAddresses::Judged, Some("127.0.0.0/7")),
        ("::/0", LocalAddresses::MayBypass, Some("::/0")),
        (
            "localhost,.corp.example",
            LocalAddresses::MayBypass,
            Some(".corp.example"),
        ),
        ("notlocalhost", LocalAddresses::Judged, Some("notlocalhost")),
        (
            "10.0.0.0/8,localhost",
            LocalAddresses::Judged,
            Some("10.0.0.0/8"),
        ),
        (
            "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
            LocalAddresses::MayBypass,
            None,
        ),
        ("10.0.0.0/7", LocalAddresses::MayBypass, Some("10.0.0.0/7")),
    ] {
        let found = bypassing(&variables(&[("no_proxy", value)]), local);
        match wide {
            None => assert!(found.is_empty(), "{value}: {found:?}"),
            Some(wide) => {
                assert_eq!(found.len(), 1, "{value}");
                assert_eq!(found[0].verdict, Problem);
                let text = format!("no_proxy takes {wide} past");
                assert!(found[0].found.contains(&text), "{found:?}");
            }
        }
    }
}

#[test]
fn b2_a_file_of_certificates_must_exist_and_have_the_ca_in_use() {
    let directory = tempfile::tempdir().expect("a directory");
    let pem =
        |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    let (with, without) = (
        directory.path().join("with"),
        directory.path().join("without"),
    );
    std::fs::write(&with, pem("b3RoZXIK") + &pem("b3VycyEK")).expect("a file");
    std::fs::write(&without, pem("b3RoZXIK")).expect("a file");
    let ca = CertificateDer::from_pem_slice(pem("b3VycyEK").as_bytes()).expect("it is PEM");
    assert_eq!(look_into(&with, Some(&ca)), CertificateFile::HasCa);
    assert_eq!(look_into(&without, Some(&ca)), CertificateFile::LacksCa);
    assert_eq!(look_into(&without, None), CertificateFile::HasCa);
    let missing = look_into(&directory.path().join("none"), None);
    assert!(
        matches!(missing, CertificateFile::Unreadable(_)),
        "{missing:?}"
    );
    assert!(matches!(
        look_into(directory.path(), None),
        CertificateFile::Unreadable(_)
    ));
    assert_eq!(
        judge_certificates("PIP_CERT", &CertificateFile::HasCa, None),
        None
    );
    let lacks = judge_certificates("PIP_CERT", &CertificateFile::LacksCa, Some("/b.pem"))
        .expect("a finding");
    assert_eq!(lacks.verdict, Problem);
    assert_eq!(lacks.advice.as_deref(), Some("export PIP_CERT=/b.pem"));
}
