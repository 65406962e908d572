//! The words for a request that is refused because of a credential (SPEC B8, B11).

use crate::attempt::Refusal;

/// The cause of the refusal and its remedy (SPEC H7).
pub(super) fn sentence(refusal: &Refusal) -> String {
    let (host, port) = (&refusal.host, refusal.port);
    let credential = refusal.credential.as_ref();
    let credential = credential.map_or("?", |credential| credential.as_str());
    match refusal.detail {
        Some("credential_missing") => format!(
            "requests to {host}:{port} need the credential {credential}, and this one does not present it; send the \
             value of its variable in the header field that its provider expects."
        ),
        Some("credential_unwritable") => format!(
            "the value of the credential {credential} cannot be written into a header field."
        ),
        Some("method_override") => format!(
            "the credential {credential} goes only with some methods to {host}:{port}, and the query of this request \
             may make the server act on another one; send the request without that part of the query."
        ),
        detail => {
            let whole = match detail {
                Some("dummy_in_url") => "the URL",
                Some("dummy_in_method") => "the method",
                Some("dummy_in_body") => "the body",
                _ => "a header field",
            };
            format!(
                "{whole} of this request to {host}:{port} has the dummy of the credential {credential}, which may not \
                 go there; send it only to the destinations of that credential, and never in a URL."
            )
        }
    }
}
