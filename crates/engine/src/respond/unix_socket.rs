//! Sentences about unix sockets (SPEC H7): what happened and what to do, and never a path.

use codex_network_policy::Reason;

use crate::enforce::unix_socket::RELATIVE;
use crate::enforce::{CONTENT, Refusal};
use crate::upstream::ConnectError;
use crate::upstream::unix_socket::SocketError;

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

/// What is wrong with an allowed socket.
pub(super) fn what(error: &SocketError) -> &'static str {
    match error {
        SocketError::Missing => "there is no such socket",
        SocketError::NotASocket => "what is at this path is no socket",
        SocketError::Inaccessible => "the user that the proxy runs as may not use the socket",
        SocketError::TooLong => "the path of the socket is too long for this system",
        SocketError::Replaced => "the socket was replaced while the proxy connected to it",
        SocketError::Connect(ConnectError::Refused) => "nothing listens on the socket",
        SocketError::Connect(ConnectError::Timeout) => "the connection timed out",
        SocketError::Connect(ConnectError::ExhaustedDescriptors) => {
            "the proxy has no file descriptors left"
        }
        SocketError::Connect(ConnectError::Unreachable | ConnectError::Other(_)) => {
            "the connection failed"
        }
        SocketError::Answer(_) => "the program closed the connection or did not answer in HTTP",
        SocketError::TransferCoding => "the program used transfer codings that cannot be passed on",
        SocketError::UnaskedUpgrade => "the program switched protocols unasked",
        SocketError::InterimFlood => "the program sent interim answers without end",
        SocketError::Silent(_) => "the program did not answer in time",
    }
}
