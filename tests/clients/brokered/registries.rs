//! Package managers: each installs a package and publishes one.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::origin::{Answer, Body, Reply, Request};
use serde_json::json;

use super::{Brokered, Through, brokered_tests};
use crate::client::{CONTENT, Scheme};
use crate::{cargo as crates, npm as packages, pip as wheels};

/// npm shows nothing that begins as the tokens of its own registry do.
const NPM: &str = "of-ours-REALreal0123456789abcdefABCDEF012345";
const PYPI: &str = "pypi-REALreal0123456789abcdefABCDEF0123456789-_xyz";
const CARGO: &str = "cioREALreal0123456789abcdefABCDEF01";

/// npm takes its token from `.npmrc`, which names the variable.
fn npm(through: Through) {
    let client = Brokered {
        provider: "[network.credentials.npm]\nuse = \"npm\"\n",
        variable: "NODE_AUTH_TOKEN",
        real: NPM,
        field: ("authorization", format!("Bearer {NPM}")),
        variables: &[
            ("npm_config_registry", "{origin}/"),
            ("npm_config_fetch_retries", "0"),
            ("npm_config_audit", "false"),
            ("npm_config_fund", "false"),
            ("npm_config_update_notifier", "false"),
        ],
        files: &[],
        script: "echo \"//$AUTHORITY/:_authToken=\\${NODE_AUTH_TOKEN}\" >.npmrc\n\
                 mkdir user mine\n\
                 cd user\n\
                 echo {} >package.json\n\
                 npm install tiny@1.0.0\n\
                 cat node_modules/tiny/index.js\n\
                 npm view tiny description\n\
                 cd ../mine\n\
                 echo '{ \"name\": \"mine\", \"version\": \"1.0.0\" }' >package.json\n\
                 npm publish",
    };
    let registry = packages::registry(Scheme::Https);
    let run = client.works(through, move |request| {
        match (&*request.method, request.target.as_str()) {
            ("PUT", "/mine") => published(request, "mine-1.0.0.tgz"),
            ("GET", "/tiny") => described(registry(request)),
            _ => registry(request),
        }
    });
    assert!(run.stdout.contains(CONTENT), "{run:#?}");
    run.says("+ mine@1.0.0");
}

brokered_tests!(npm);

/// The metadata of a package, with the token in its description.
fn described(answer: Answer) -> Answer {
    let Answer::Reply(Reply {
        body: Body::Sized(body),
        ..
    }) = answer
    else {
        panic!("{answer:?}");
    };
    let mut package: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    package["versions"]["1.0.0"]["description"] = json!(format!("for {NPM}"));
    Answer::json(&package)
}

/// 201 if the request has the file.
fn published(request: &Request, file: &str) -> Answer {
    if request.text().contains(file) {
        Answer::Reply(Reply::new(201, Body::Sized(b"{}".to_vec())))
    } else {
        Answer::status(400)
    }
}

/// pip takes its token from the URL of its index, in which another variable of the caller contains it.
fn pip(through: Through) {
    let client = Brokered {
        provider: "[network.credentials.pip]\nuse = \"pip\"\nenv = \"PIP_TOKEN\"\n",
        variable: "PIP_TOKEN",
        real: PYPI,
        field: basic(PYPI),
        variables: &[
            (
                "PIP_INDEX_URL",
                "https://__token__:{value}@{authority}/pypi/simple/",
            ),
            ("PIP_CONFIG_FILE", "/dev/null"),
            ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
            ("PIP_RETRIES", "0"),
            ("PIP_NO_INPUT", "1"),
        ],
        files: &[],
        script: "python -m pip install -vv --no-deps --target got tiny==1.0\ncat got/tiny.py",
    };
    let index = wheels::index();
    let run = client.works(through, move |request| {
        // The files stand beside the folder of the index, in `/pypi/files`.
        let Some(target) = request.target.strip_prefix("/pypi") else {
            return Answer::status(404);
        };
        if target != "/simple/tiny/" {
            return index(&Request { target: target.to_owned(), ..request.clone() });
        }
        // pip shows the names of files that it does not take.
        let wheel = wheels::WHEEL;
        let page = format!(
            "<a href=\"../../files/{wheel}\">{wheel}</a>\n<a href=\"../../files/{PYPI}.txt\">a note</a>\n"
        );
        Answer::bytes("text/html", page.as_bytes())
    });
    assert!(run.stdout.contains(CONTENT), "{run:#?}");
}

brokered_tests!(pip);

fn twine(through: Through) {
    let wheel = wheels::wheel();
    let client = Brokered {
        provider: "[network.credentials.twine]\nuse = \"twine\"\n",
        variable: "TWINE_PASSWORD",
        real: PYPI,
        field: basic(PYPI),
        variables: &[
            ("TWINE_REPOSITORY_URL", "{origin}/legacy/"),
            ("TWINE_USERNAME", "__token__"),
            ("TWINE_NON_INTERACTIVE", "1"),
        ],
        files: &[(wheels::WHEEL, wheel)],
        script: "python -m twine upload --verbose --disable-progress-bar *.whl",
    };
    client.works(through, |request| {
        if request.target != "/legacy/" || !request.text().contains(wheels::WHEEL) {
            return Answer::status(400);
        }
        Answer::text(&format!("uploaded with {PYPI}"))
    });
}

brokered_tests!(twine);

/// A registry that requires the token for its index too. cargo asks without it first.
fn cargo(through: Through) {
    let client = Brokered {
        provider: "[network.credentials.cargo]\nuse = \"cargo\"\nenv = \"CARGO_REGISTRIES_TEST_TOKEN\"\n\
                   url_prefixes = [\"{origin}\"]\n",
        variable: "CARGO_REGISTRIES_TEST_TOKEN",
        real: CARGO,
        field: ("authorization", CARGO.to_owned()),
        variables: &[
            ("CARGO_REGISTRIES_TEST_INDEX", "sparse+{origin}/index/"),
            ("CARGO_REGISTRIES_TEST_CREDENTIAL_PROVIDER", "cargo:token"),
            ("CARGO_NET_RETRY", "0"),
            ("CARGO_TERM_COLOR", "never"),
        ],
        files: &[("Cargo.toml", crates::USER.as_bytes().to_vec())],
        script: "export CARGO_HOME=$HOME/.cargo\n\
                 : >lib.rs\n\
                 cargo fetch\n\
                 cat .cargo/registry/src/*/tiny-1.0.0/src/lib.rs\n\
                 mkdir mine\n\
                 cd mine\n\
                 : >lib.rs\n\
                 printf '[package]\\nname = \"mine\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n\
                 description = \"x\"\\nlicense = \"MIT\"\\n[lib]\\npath = \"lib.rs\"\\n[workspace]\\n' >Cargo.toml\n\
                 cargo publish --no-verify --registry test",
    };
    let (registry, is_published) = (crates::registry(Scheme::Https), AtomicBool::new(false));
    let run = client.works(through, move |request| {
        match (&*request.method, request.target.as_str()) {
            ("GET", "/index/config.json") => {
                let base = format!("https://{}", request.authority());
                let dl = format!("{base}/dl");
                Answer::json(&json!({ "dl": dl, "api": base, "auth-required": true }))
            }
            ("PUT", "/api/v1/crates/new") => {
                is_published.store(true, Ordering::SeqCst);
                let words = format!("published with {CARGO}");
                Answer::json(&json!({ "warnings": {
                    "invalid_categories": [], "invalid_badges": [], "other": [words],
                } }))
            }
            ("GET", "/index/mi/ne/mine") if is_published.load(Ordering::SeqCst) => {
                Answer::json(&json!({
                    "name": "mine", "vers": "0.1.0", "deps": [], "features": {},
                    "cksum": "0".repeat(64), "yanked": false,
                }))
            }
            _ => registry(request),
        }
    });
    assert!(run.stdout.contains(CONTENT), "{run:#?}");
    run.says("Published mine v0.1.0");
}

brokered_tests!(cargo);

/// The field of a user of a Python index.
fn basic(token: &str) -> (&'static str, String) {
    let pair = STANDARD.encode(format!("__token__:{token}"));
    ("authorization", format!("Basic {pair}"))
}
