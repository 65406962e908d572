//! Content that an origin leaves unread and takes for the next request of the connection (SPEC P7,
//! M10; RFC 9110 section 9.3, RFC 9112 section 11.2).

mod inside;
mod plain;

use e2e::origin::{Answer, Builder, Origin};

/// Methods whose definition gives content no meaning, and that limited mode permits.
const READING: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// An origin that leaves content unread, except for `/kept`, whose content is its answer.
fn careless() -> Builder {
    Origin::answering(|request| match request.target.as_str() {
        "/api/kept" => Answer::text(&request.text()),
        _ => Answer::text("done"),
    })
    .leaving_unread(|request| request.target != "/api/kept")
}

/// A request in origin-form, to be hidden in the content of another.
fn hidden(method: &str, path: &str, length: usize) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: any.test\r\nContent-Length: {length}\r\n\r\n")
}
