//! Any text is a destination with one canonical text, or not a destination. A destination with a path covers only
//! targets below it (SPEC B7).
#![no_main]

use codex_network_config::{Destination, DestinationHost};
use codex_network_policy::{Host, unambiguous_path};
use libfuzzer_sys::fuzz_target;

// The text of a destination, and a request-target on the next line.
fuzz_target!(|input: &str| {
    let (text, target) = input.split_once('\n').unwrap_or((input, "/"));
    let Ok(destination) = Destination::parse(text) else {
        return;
    };
    let canonical = destination.to_string();
    assert_eq!(Destination::parse(&canonical).as_ref(), Ok(&destination));
    let (scheme, port) = (destination.scheme(), destination.port());
    let host = match destination.hosts() {
        DestinationHost::Exact(host) => host.clone(),
        DestinationHost::Below(name) => {
            let apex = Host::parse(name.as_str()).expect("a name is a host");
            assert!(!destination.covers(scheme, &apex, port, target));
            match Host::parse(&format!("a.{}", name.as_str())) {
                Ok(host) => host,
                // The name has the full length.
                Err(_) => return,
            }
        }
    };
    assert!(destination.reaches(scheme, &host, port));
    assert!(!destination.reaches(scheme, &host, port.wrapping_add(1)));
    let covers = destination.covers(scheme, &host, port, target);
    let Some(path) = destination.path() else {
        assert!(covers);
        return;
    };
    if covers {
        let target = target.split_once('?').map_or(target, |(path, _)| path);
        let decoded = unambiguous_path(target).expect("an ambiguous path is not covered");
        let rest = decoded.strip_prefix(path).expect("it begins with the path");
        assert!(path.ends_with('/') || rest.is_empty() || rest.starts_with('/'));
        assert!(!decoded.split('/').any(|segment| matches!(segment, "." | "..")));
    }
});
