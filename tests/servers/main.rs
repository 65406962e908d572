//! Requests as real servers read them (SPEC H4, M10): nginx and lighttpd with PHP, express, puma with Rack,
//! Tomcat.
//!
//! Spellings from a table go to each server twice: as they are, and as the proxy lets them through. A
//! server may read a request as one that the policy does not permit; the proxy must then have refused
//! it, or taken away what makes it so. And each request that the proxy lets through must be one request
//! to every server. `.ci/servers` installs the servers. IIS, which runs on Windows alone, has its rules in
//! `tests/cases/hooks.toml`.

mod framing;
mod hooks;
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
