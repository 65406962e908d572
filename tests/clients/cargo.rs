//! cargo, which fetches a crate of the test's own from a sparse registry of the
//! test's own.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::origin::{Answer, Builder, Origin, Request};
use e2e::program::{Program, Run};
use serde_json::json;
use tempfile::TempDir;

use crate::client::{
    Attempt, CONTENT, Client, Outcome, ProxyProtocol, Scheme, client_tests, sha256, tar_gz,
};
use crate::intercepted::{Intercepted, intercepted_tests};

/// The manifest of a package that depends on the crate.
pub(crate) const USER: &str = "[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
    [lib]\npath = \"lib.rs\"\n\
    [dependencies]\ntiny = { version = \"1\", registry = \"test\" }\n\
    [workspace]\n";

struct Cargo;

impl Client for Cargo {
    fn origin(&self, scheme: Scheme) -> Builder {
        Origin::answering(registry(scheme))
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let project = TempDir::new().expect("a temporary directory");
        let put = |name: &str, text: &str| {
            fs::write(project.path().join(name), text).expect("a file");
        };
        put("Cargo.toml", USER);
        put("lib.rs", "");
        let home = TempDir::new().expect("a temporary directory");
        let run = cargo(attempt, home.path())
            .args(["fetch", "--color=never"])
            .current_dir(project.path())
            .run();
        let sources = home.path().join("registry/src");
        let fetched = fs::read_dir(sources)
            .ok()
            .and_then(|mut registries| registries.next()?.ok())
            .and_then(|registry| {
                fs::read_to_string(registry.path().join("tiny-1.0.0/src/lib.rs")).ok()
            });
        Outcome { run, fetched }
    }

    fn refusals(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        match (scheme, through) {
            (Scheme::Http, ProxyProtocol::Http) => &["got 403"],
            (Scheme::Https, ProxyProtocol::Http) => &["CONNECT tunnel failed, response 403"],
            (_, ProxyProtocol::Socks5) => &["blocked.test. (2)"],
        }
    }
}

impl Intercepted for Cargo {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        let home = TempDir::new().expect("a temporary directory");
        cargo(attempt, home.path())
            .args(["yank", "--color=never", "--registry=test", "tiny@1.0.0"])
            .env("CARGO_REGISTRIES_TEST_TOKEN", "of-nobody")
            .run()
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        // With the body of H5.
        &[r#""reason":"method_not_allowed""#]
    }

    fn distrusts(&self) -> &'static [&'static str] {
        &["SSL certificate problem"]
    }

    fn versions(&self) -> &'static [&'static str] {
        &["HTTP/2.0"]
    }
}

/// A sparse index with one crate, and the crate (the Cargo Book, "Index Format").
pub(crate) fn registry(scheme: Scheme) -> impl Fn(&Request) -> Answer {
    let package = package();
    let checksum = sha256(&package);
    move |request| match request.target.as_str() {
        "/index/config.json" => {
            let authority = request.authority();
            let base = format!("{}://{authority}", scheme.name());
            Answer::json(&json!({ "dl": format!("{base}/dl"), "api": base }))
        }
        "/index/ti/ny/tiny" => Answer::json(&json!({
            "name": "tiny", "vers": "1.0.0", "deps": [], "features": {},
            "cksum": checksum, "yanked": false,
        })),
        "/dl/tiny/1.0.0/download" => Answer::bytes("application/gzip", &package),
        _ => Answer::status(404),
    }
}

/// cargo with a registry named `test`, configured as its users do.
fn cargo(attempt: &Attempt<'_>, home: &Path) -> Program {
    let mut program = attempt.program(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    if let Some(toolchains) = rustup_home() {
        program = program.env("RUSTUP_HOME", toolchains);
    }
    if let Some(toolchain) = std::env::var_os("RUSTUP_TOOLCHAIN") {
        program = program.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    let index = format!("sparse+{}/index/", attempt.base);
    program
        .env("CARGO_HOME", home)
        .env("CARGO_NET_RETRY", "0")
        .env("CARGO_REGISTRIES_TEST_INDEX", index)
        .env("CARGO_HTTP_PROXY", attempt.proxy_or_empty())
}

/// The directory of rustup's toolchains. rustup must be told it since cargo gets an empty `HOME`;
/// otherwise it would download them.
fn rustup_home() -> Option<PathBuf> {
    let usual = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".rustup"));
    std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(usual)
        .filter(|path| path.exists())
}

/// The output of `cargo package`.
fn package() -> Vec<u8> {
    let directory = TempDir::new().expect("a temporary directory");
    let root = directory.path().join("tiny-1.0.0");
    fs::create_dir_all(root.join("src")).expect("a directory");
    fs::write(
        root.join("Cargo.toml"),
        "[package]\nname = \"tiny\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
    )
    .expect("a file");
    fs::write(root.join("src/lib.rs"), CONTENT).expect("a file");
    tar_gz(directory.path(), "tiny-1.0.0")
}

client_tests!(Cargo; http, https, socks5);
intercepted_tests!(Cargo);
