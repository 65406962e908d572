//! TLS interception (SPEC M1 to M10).

mod issuer;

pub use issuer::{IssueError, IssuedLeaf, LeafIssuer};
