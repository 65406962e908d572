//! pip, which installs a wheel of the test's own from an index of the test's own.

use std::fs;
use std::path::Path;

use e2e::origin::{Answer, Builder, Origin, Request};
use e2e::program::{Program, Run, installed};
use tempfile::TempDir;

use crate::client::{Attempt, CONTENT, Client, Outcome, ProxyProtocol, Scheme, client_tests};
use crate::intercepted::{Intercepted, intercepted_tests};

pub(crate) const WHEEL: &str = "tiny-1.0-py3-none-any.whl";

struct Pip;

impl Client for Pip {
    fn origin(&self, _scheme: Scheme) -> Builder {
        Origin::answering(index())
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let target = TempDir::new().expect("a temporary directory");
        // Very verbose: otherwise a refusal reads like an unknown project.
        let run = pip(attempt, &["install", "-vv", "--no-deps"])
            .args(["--index-url", &format!("{}/simple/", attempt.base)])
            .arg("--target")
            .arg(target.path())
            .args(trusting(attempt))
            .arg("tiny==1.0")
            .run();
        let fetched = fs::read_to_string(target.path().join("tiny.py")).ok();
        Outcome { run, fetched }
    }

    fn refusals(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        match (scheme, through) {
            (Scheme::Http, ProxyProtocol::Http) => &["403 Client Error: Forbidden"],
            (Scheme::Https, ProxyProtocol::Http) => &["Tunnel connection failed: 403 Forbidden"],
            (_, ProxyProtocol::Socks5) => &["0x02: Connection not allowed by ruleset"],
        }
    }
}

impl Intercepted for Pip {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        // It searches by XML-RPC, so by POST.
        pip(attempt, &["search", "--index", &attempt.base])
            .arg("tiny")
            .run()
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        &["403 Client Error: Forbidden", "HTTP error 403"]
    }

    fn distrusts(&self) -> &'static [&'static str] {
        &["CERTIFICATE_VERIFY_FAILED"]
    }
}

/// The simple index of PEP 503, with one project.
pub(crate) fn index() -> impl Fn(&Request) -> Answer {
    let wheel = wheel();
    move |request| match request.target.as_str() {
        "/simple/tiny/" => {
            let page = format!("<a href=\"../../files/{WHEEL}\">{WHEEL}</a>");
            Answer::bytes("text/html", page.as_bytes())
        }
        target if target.ends_with(WHEEL) => Answer::bytes("application/zip", &wheel),
        _ => Answer::status(404),
    }
}

fn pip(attempt: &Attempt<'_>, arguments: &[&str]) -> Program {
    attempt
        .program(installed("venv/bin/python"))
        .args(["-m", "pip"])
        .args(arguments)
        .args(["--retries=0", "--proxy", attempt.proxy_or_empty()])
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        // No configuration file of this machine.
        .env("PIP_CONFIG_FILE", "/dev/null")
}

/// pip accepts plain HTTP only with an option.
fn trusting(attempt: &Attempt<'_>) -> Vec<String> {
    if attempt.base.starts_with("https:") {
        return Vec::new();
    }
    vec!["--trusted-host".to_owned(), attempt.host().to_owned()]
}

/// A wheel with one module and the metadata that PEP 427 requires.
pub(crate) fn wheel() -> Vec<u8> {
    let directory = TempDir::new().expect("a temporary directory");
    let put = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("a directory");
        fs::write(path, text).expect("a file");
    };
    put("tiny.py", CONTENT);
    put(
        "tiny-1.0.dist-info/METADATA",
        "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    );
    put(
        "tiny-1.0.dist-info/WHEEL",
        "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    );
    put(
        "tiny-1.0.dist-info/RECORD",
        "tiny.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/RECORD,,\n",
    );
    Program::new(installed("venv/bin/python"))
        .args([
            "-m",
            "zipfile",
            "-c",
            WHEEL,
            "tiny.py",
            "tiny-1.0.dist-info",
        ])
        .current_dir(directory.path())
        .run()
        .succeeded();
    fs::read(directory.path().join(WHEEL)).expect("the wheel that was just made")
}

client_tests!(Pip; http, https, socks5);
intercepted_tests!(Pip);
