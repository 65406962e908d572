//! The engine's counters at one moment.

/// A snapshot of the engine's counters, for the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Client connections that are open now.
    pub connections: usize,
    /// The connections among them that have a UDP association.
    pub udp_associations: usize,
    /// Connections since the start that ended to make room for others.
    pub ended_for_others: u64,
    /// Clients since the start that were turned away because too many waited for a slot.
    pub turned_away: u64,
    /// Upstream HTTP connections kept for the next request.
    pub idle_upstream: usize,
    /// Connections to origins that were opened since the start.
    pub upstream_direct: u64,
    /// Connections since the start to an upstream proxy that forwards plain HTTP.
    pub upstream_http_proxy: u64,
    /// Connections since the start that an upstream proxy made by CONNECT.
    pub upstream_tunnel_proxy: u64,
    /// Attempts that were allowed since the start.
    pub allowed: u64,
    /// Attempts that were refused since the start.
    pub blocked: u64,
    /// Attempts among the allowed ones that would be refused if hosts on neither list were not only reported.
    pub reported: u64,
}
