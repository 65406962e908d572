//! Sentences about unix sockets (SPEC H7): what happened and what to do. They never name a path.

use codex_network_policy::Reason;

use crate::attempt::Refusal;
use crate::enforce::CONTENT;
use crate::enforce::unix_socket::RELATIVE;

/// Why a request to a unix socket was refused.
pub(super) fn sentence(refusal: &Refusal) -> String {
    match refusal.decision.reason() {
        Reason::NotAllowed if refusal.detail == Some(RELATIVE) => {
            "the x-unix-socket field takes the absolute path of a socket.".to_owned()
        }
        Reason::NotAllowed => {
            "this unix socket is not on the list of the network policy; add its path to allow_unix_sockets and \
             reload the proxy to allow it."
                .to_owned()
        }
        Reason::MethodNotAllowed if refusal.detail == Some(CONTENT) => {
            "the network policy is in limited mode, which lets no request with content through to unix sockets; \
             send it without content (no Content-Length, no Transfer-Encoding), or use full mode."
                .to_owned()
        }
        Reason::MethodNotAllowed => {
            "the network policy is in limited mode, which lets only GET, HEAD and OPTIONS requests without a \
             protocol upgrade through to unix sockets; full mode is needed for this one."
                .to_owned()
        }
        Reason::LoopDetected => {
            "this unix socket is the proxy's own; use proxyctl to talk to the proxy.".to_owned()
        }
        reason => format!("the network policy refuses this unix socket ({reason})."),
    }
}
