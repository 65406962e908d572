//! The three forms of an answer.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;

use super::ApiAnswer;

/// Plain text. Answers like `ok` have no line end, so that scripts can compare them.
pub(super) fn text(status: StatusCode, text: &str) -> ApiAnswer {
    own(status, "text/plain; charset=utf-8", text.to_owned())
}

/// JSON, as `200`.
pub(super) fn json(value: &impl Serialize) -> ApiAnswer {
    json_as(StatusCode::OK, value)
}

/// JSON with another status.
pub(super) fn json_as(status: StatusCode, value: &impl Serialize) -> ApiAnswer {
    match serde_json::to_string(value) {
        Ok(json) => own(status, "application/json", json),
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

/// An answer of this type.
pub(super) fn own(status: StatusCode, content_type: &'static str, body: String) -> ApiAnswer {
    let mut answer = Response::new(Full::from(body).boxed());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}
