//! Requests as real servers read them (SPEC H4, M10): nginx and lighttpd with PHP, express, puma with Rack,
//! Tomcat.
//!
//! Spellings from a table go to each server twice: unchanged, and through the proxy. If a server
//! reads a request as one that the policy does not permit, the proxy must have refused it or
//! removed the part that causes this. Every server must read each request that the proxy passes as
//! one request. A real Prometheus scrapes the proxy, and a real receiver of OTLP gets its audit events. `.ci/servers`
//! installs the servers. IIS, which runs only on Windows, has its rules in `tests/cases/hooks.toml`.

mod framing;
mod hooks;
mod otlp;
mod prometheus;
mod reading;
mod recorder;
mod start;

/// The tests of each server.
macro_rules! each_server {
    ($check:path) => {
        #[test]
        fn nginx_with_php() {
            $check(&crate::start::nginx());
        }

        #[test]
        fn lighttpd_with_php() {
            $check(&crate::start::lighttpd());
        }

        #[test]
        fn express() {
            $check(&crate::start::express());
        }

        #[test]
        fn puma_with_rack() {
            $check(&crate::start::puma());
        }

        #[test]
        fn tomcat() {
            $check(&crate::start::tomcat());
        }
    };
}

use each_server;
