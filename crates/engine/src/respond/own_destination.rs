//! The words for a request whose destination is the proxy's own (SPEC P6, H12, O2).

use crate::attempt::Refusal;
use crate::enforce::{COLLECTOR, LOOPING_PROXY};

/// The cause of the refusal and its remedy (SPEC H7).
pub(super) fn sentence(refusal: &Refusal) -> &'static str {
    match refusal.detail {
        Some(LOOPING_PROXY) => {
            "this proxy is its own upstream proxy; its administrator must change HTTP_PROXY and the related \
             variables in the environment of the proxy itself."
        }
        Some(COLLECTOR) => {
            "the destination is the collector of this proxy's audit events, which only the proxy may use."
        }
        _ => {
            "the destination is this proxy itself; check the URL and the proxy settings of the client."
        }
    }
}
