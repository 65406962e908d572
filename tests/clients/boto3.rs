//! boto3, the AWS client of `PyPI`: it stores objects with `Expect: 100-continue`, in aws-chunked
//! coding, with a checksum after the content.

use e2e::daemon::Config;
use e2e::origin::{Answer, Body, Builder, Origin, Reply};
use e2e::program::Run;

use crate::client::{Attempt, CONTENT, Client, Outcome, ProxyProtocol, Scheme, client_tests};
use crate::intercepted::{Intercepted, attempt_through, intercepted_tests, setup_for};

/// The length of the object that `python/boto3_object.py` puts.
const LENGTH: usize = 300_000;

struct Boto3;

impl Client for Boto3 {
    fn origin(&self, _scheme: Scheme) -> Builder {
        Origin::answering(|request| match &*request.method {
            "PUT" => Answer::Reply(Reply::new(200, Body::Sized(Vec::new()))),
            _ => Answer::text(CONTENT),
        })
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        Outcome::printed(object(attempt, "get"))
    }

    fn refusals(&self, scheme: Scheme, _through: ProxyProtocol) -> &'static [&'static str] {
        match scheme {
            Scheme::Http => &["(403)"],
            Scheme::Https => &["403 Forbidden"],
        }
    }
}

impl Intercepted for Boto3 {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        object(attempt, "put")
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        &["(403)"]
    }

    fn distrusts(&self) -> &'static [&'static str] {
        &["SSL validation failed"]
    }
}

fn object(attempt: &Attempt<'_>, what: &str) -> Run {
    let mut program = attempt.python("boto3_object");
    if let Some(proxy) = &attempt.proxy {
        program = program.env("HTTP_PROXY", proxy).env("HTTPS_PROXY", proxy);
    }
    program.args([&attempt.base, what]).run()
}

client_tests!(Boto3; http, https);
intercepted_tests!(Boto3);

/// The origin gets exactly the bytes that boto3 sent, in their coding.
#[test]
fn h1_m6_an_object_in_aws_chunked_coding_arrives_unchanged() {
    let config = Config::example().hook("s3", "allowed.test", &["PUT"], "/bucket/key");
    let setup = setup_for(Boto3.origin(Scheme::Https), &config);
    let run = attempt_through(&setup, |attempt| object(attempt, "put"));
    run.succeeded().says("put");
    let requests = setup.origin.requests();
    let request = requests.first().expect("a request");
    assert_eq!(request.header("content-encoding"), Some("aws-chunked"));
    let sent = request.text();
    assert!(sent.matches('x').count() >= LENGTH, "{} bytes", sent.len());
    assert!(
        sent.contains("x-amz-checksum-crc32:"),
        "the trailer of the coding"
    );
}
