//! Any bytes are a host in canonical form, or not a host (SPEC P1).
#![no_main]

use codex_network_policy::{Authority, Host};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(authority) = Authority::parse(text, Some(80))
    {
        let canonical = authority.to_string();
        assert_eq!(Authority::parse(&canonical, None), Ok(authority));
    }
    let Ok(host) = Host::parse_bytes(bytes) else {
        return;
    };
    let text = host.to_string();
    assert_eq!(Host::parse(&text).as_ref(), Ok(&host));
    let Host::Name(name) = &host else {
        return;
    };
    assert_eq!(name.as_str(), text);
    assert!((1..=253).contains(&text.len()));
    for label in text.split('.') {
        assert!((1..=63).contains(&label.len()));
        let sound = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        assert!(label.bytes().all(sound));
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    let (digits, base) = last.strip_prefix("0x").map_or((last, 10), |hex| (hex, 16));
    assert!(!digits.chars().all(|digit| digit.is_digit(base)));
});
