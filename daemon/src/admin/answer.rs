//! The three forms of an answer.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

use super::ApiAnswer;

/// Plain text. Answers like `ok` have no line end, so that scripts can compare them.
pub(super) fn text(status: StatusCode, text: &str) -> ApiAnswer {
    own(status, "text/plain; charset=utf-8", text.to_owned())
}

/// JSON, as `200`.
pub(super) fn json(value: &impl Serialize) -> ApiAnswer {
    match serde_json::to_string(value) {
        Ok(json) => own(StatusCode::OK, "application/json", json),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("cannot write JSON: {error}"),
        ),
    }
}

/// A reload that changed nothing.
pub(super) fn failed(why: &str) -> ApiAnswer {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        &format!("the reload failed; the old settings stay in force\n\n{why}\n"),
    )
}

fn own(status: StatusCode, content_type: &'static str, body: String) -> ApiAnswer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
