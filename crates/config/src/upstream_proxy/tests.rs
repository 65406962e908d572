//! Tables of environments and their meaning (SPEC H12).

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<UpstreamProxies, Vec<ProxyVariableError>> {
    UpstreamProxies::from_environment(|name| {
        let mut found = variables.iter().filter(|(known, _)| *known == name);
        found.next().map(|(_, value)| OsString::from(value))
    })
}

/// The proxies for plain HTTP and for tunnels.
fn shown(variables: &[(&str, &str)]) -> (String, String) {
    let proxies = read(variables).expect("usable variables");
    let show = |proxy: Option<&Arc<UpstreamProxy>>| {
        proxy.map_or_else(|| "direct".to_owned(), ToString::to_string)
    };
    (show(proxies.http()), show(proxies.tunnel()))
}

fn error(variables: &[(&str, &str)]) -> String {
    let errors = read(variables).expect_err("unusable variables");
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("\n")
}

#[test]
fn h12_each_variable_stands_for_its_kind_of_traffic() {
    for (variables, http, tunnel) in [
        (&[][..], "direct", "direct"),
        (&[("HTTP_PROXY", "http://p:1")], "http://p:1", "direct"),
        (&[("HTTPS_PROXY", "http://p:1")], "direct", "http://p:1"),
        (&[("ALL_PROXY", "http://p:1")], "http://p:1", "http://p:1"),
        (
            &[("ALL_PROXY", "http://p:1"), ("HTTPS_PROXY", "http://q:2")],
            "http://p:1",
            "http://q:2",
        ),
        (
            &[("HTTP_PROXY", "http://p:1"), ("http_proxy", "http://q:2")],
            "http://q:2",
            "direct",
        ),
        // As in curl: an empty value counts as unset.
        (
            &[("HTTP_PROXY", "http://p:1"), ("http_proxy", " ")],
            "http://p:1",
            "direct",
        ),
        // A proxy that would never be used may be of any kind.
        (
            &[
                ("ALL_PROXY", "socks5h://s:1"),
                ("HTTP_PROXY", "http://p:1"),
                ("HTTPS_PROXY", "http://p:1"),
            ],
            "http://p:1",
            "http://p:1",
        ),
    ] {
        let wanted = (http.to_owned(), tunnel.to_owned());
        assert_eq!(shown(variables), wanted, "{variables:?}");
    }
}

#[test]
fn h12_a_proxy_is_a_url_or_a_host_and_port() {
    for (value, wanted) in [
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("proxy.example", "http://proxy.example:80"),
        ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128"),
        ("https://proxy.example", "https://proxy.example:443"),
        ("http://192.0.2.1:8080", "http://192.0.2.1:8080"),
        ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
        (" http://proxy.example:1 ", "http://proxy.example:1"),
        ("http://user:pass@p:1", "http://***@p:1"),
        ("user:pass@p:1", "http://***@p:1"),
        ("http://@p:1", "http://p:1"),
    ] {
        assert_eq!(shown(&[("http_proxy", value)]).0, wanted, "{value}");
    }
}

#[test]
fn h12_what_cannot_be_used_is_an_error_and_never_direct() {
    for (value, wanted) in [
        ("socks5://p:1", "socks5 proxies are not supported"),
        ("SOCKS5H://p:1", "socks5h proxies are not supported"),
        ("ftp://p:1", "ftp proxies are not supported"),
        ("http://", "names no host and port"),
        ("://p:1", "names no host and port"),
        ("http://p:0", "names no host and port"),
        ("http://p:70000", "names no host and port"),
        ("http://a b:1", "names no host and port"),
        ("http://p:1/path", "no path"),
        ("http://p:1?a", "no path"),
        ("http://u:%zz@p:1", "bad percent escape"),
        ("http://u:%0d%0aX@p:1", "control character"),
        ("http://p:1/@other:2", "not escaped"),
        ("http://u%3a:pass@p:1", "user name"),
    ] {
        let told = error(&[("ALL_PROXY", value)]);
        assert!(told.starts_with("ALL_PROXY: "), "{value}: {told}");
        assert!(told.contains(wanted), "{value}: {told}");
        assert!(told.contains("allow_upstream_proxy = false"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let both = error(&[("http_proxy", "x://p"), ("https_proxy", "http://")]);
    assert_eq!(both.lines().count(), 2, "all are told: {both}");
}

#[test]
fn h12_a_value_that_is_not_text_is_an_error() {
    use std::os::unix::ffi::OsStringExt as _;
    let value = OsString::from_vec(b"http://\xff:1".to_vec());
    for name in ["http_proxy", "HTTPS_PROXY", "ALL_PROXY", "no_proxy"] {
        let read =
            UpstreamProxies::from_environment(|asked| (asked == name).then(|| value.clone()));
        let errors = read.expect_err("not text");
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].to_string().contains("not UTF-8"));
    }
}

#[test]
fn h12_credentials_are_decoded_and_never_shown() {
    for (userinfo, wanted) in [
        ("user:pass", "user:pass"),
        ("user", "user:"),
        ("user:", "user:"),
        (":pass", ":pass"),
        ("us%40er:p%3ass%2f", "us@er:p:ss/"),
        ("user:p@ss:w:rd", "user:p@ss:w:rd"),
        ("user:p%C3%A4ss", "user:p\u{e4}ss"),
    ] {
        let value = format!("http://{userinfo}@p:1");
        let proxies = read(&[("all_proxy", &value)]).expect("a usable value");
        let proxy = proxies.http().expect("a proxy");
        let credentials = proxy.credentials.as_ref().expect("credentials");
        assert_eq!(credentials.reveal(), wanted);
        assert_eq!(proxy.to_string(), "http://***@p:1");
        assert!(format!("{proxies:?}").contains("***"));
        assert!(!format!("{proxies:?}").contains("ss"), "{proxies:?}");
    }
}

#[test]
fn h12_no_error_shows_a_secret() {
    for value in [
        "http://user:s3cret@p:0",
        "http://user:s3cret@p:1/path",
        "http://user:s3cret%zz@p:1",
        "socks5://user:s3cret@p:1",
        "user:s3cret://x@p:1",
        "http://user:s3c/s3cret@p:1",
        "http://user:s3cret@",
        "user:s3cret@@@",
    ] {
        let told = read(&[("ALL_PROXY", value)]).map_err(|errors| format!("{errors:?}{errors:#?}"));
        let told = format!("{told:?}");
        assert!(!told.contains("s3cret"), "{value}: {told}");
    }
}

#[test]
fn h12_no_proxy_means_what_curl_says() {
    for (list, target, wanted) in [
        ("", "example.com:80", false),
        ("*", "example.com:80", true),
        ("*", "192.0.2.1:80", true),
        (" * ", "example.com:80", true),
        // Only alone.
        ("other.example,*", "example.com:80", false),
        ("example.com", "example.com:80", true),
        ("example.com", "www.example.com:443", true),
        ("example.com", "notexample.com:80", false),
        ("example.com", "example.com.evil.test:80", false),
        ("www.example.com", "example.com:80", false),
        (".example.com", "www.example.com:80", true),
        (".example.com", "example.com:80", true),
        ("EXAMPLE.com.", "example.com:80", true),
        ("a.test, example.com", "example.com:80", true),
        ("a.test example.com", "example.com:80", true),
        (",,a.test,\texample.com,", "example.com:80", true),
        ("*.example.com", "www.example.com:80", false),
        // A port restricts the entry to that port.
        ("example.com:8080", "example.com:8080", true),
        ("example.com:8080", "www.example.com:8080", true),
        ("example.com:8080", "example.com:80", false),
        ("192.0.2.1:8080", "192.0.2.1:8080", true),
        ("192.0.2.1:8080", "192.0.2.1:80", false),
        ("192.0.2.1", "192.0.2.1:80", true),
        ("192.0.2.1", "192.0.2.10:80", false),
        ("192.0.2.0/24", "192.0.2.10:80", true),
        ("192.0.2.0/24", "192.0.3.1:80", false),
        ("192.0.2.9/24", "192.0.2.10:80", true),
        ("0.0.0.0/0", "8.8.8.8:80", true),
        ("0.0.0.0/0", "[2001:db8::1]:80", false),
        ("192.0.2.0/33", "192.0.2.1:80", false),
        ("192.0.2.0/x", "192.0.2.1:80", false),
        ("192.0.2.0/24", "192.0.2.1.example:80", false),
        ("2001:db8::/32", "[2001:db8::1]:443", true),
        ("[2001:db8::]/32", "[2001:db8::1]:443", true),
        ("2001:db8::1", "[2001:db8::1]:443", true),
        ("[2001:db8::1]", "[2001:db8::1]:443", true),
        ("[2001:db8::1]:443", "[2001:db8::1]:443", true),
        ("[2001:db8::1]:443", "[2001:db8::1]:80", false),
        ("2001:db8::1", "[2001:db8::2]:443", false),
    ] {
        let proxies = read(&[("no_proxy", list)]).expect("any list");
        let target = Authority::parse(target, None).expect("an authority");
        let covered = proxies.no_proxy().covers(&target);
        assert_eq!(covered, wanted, "{list:?} {target}");
    }
}

#[test]
fn h12_an_entry_that_covers_nothing_is_told() {
    let proxies = read(&[("NO_PROXY", "a.test,*.b.test,192.0.2.0/33,http://c.test")]);
    let proxies = proxies.expect("any list");
    let told = proxies.warnings();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("NO_PROXY: \"*.b.test\" covers nothing"));
    assert_eq!(proxies.no_proxy().entries(), ["a.test"]);
    let sound = read(&[("NO_PROXY", "a.test:1,192.0.2.0/24,192.0.2.7,[::1]:80,::2")]);
    let sound = sound.expect("any list");
    assert_eq!(
        sound.no_proxy().entries(),
        ["a.test:1", "192.0.2.0/24", "192.0.2.7", "[::1]:80", "::2"]
    );
}
