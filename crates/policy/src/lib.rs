//! Decides which hosts may be reached, and gives the reason.
//!
//! This crate is the decision point of the proxy: plain data in, a [`Decision`] out. The caller
//! passes resolved addresses and the knowledge of which addresses are this machine's
//! ([`LocalAddresses`]). Records, sockets and time are outside of this crate.
//!
//! Reading order is the order of a decision. A [`Host`] exists only through its parser, and an
//! [`Authority`] adds the port. A [`Pattern`] is one line of a list. A [`DomainSet`] is a list
//! whose lookup time depends only on the host's labels. [`AddressClass`] classifies an address.
//! [`Policy::decide`] applies them in the one order that every door shares. Inside TLS interception
//! [`Hooks`] say, for each host, which requests may be made. Unix sockets have an order and a list
//! of their own: [`Policy::decide_unix_socket`].
//!
//! # Invariants
//!
//! - No I/O, no clock, no async: the crate is `no_std`, so none of them compiles.
//! - A decision cannot be made without a reason, and a list's verdict names its rule.
//! - Deny wins: no later rule lifts it.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod address;
mod authority;
mod decide;
mod decision;
mod domain_set;
mod explain;
mod field;
mod hook;
mod host;
mod local_addresses;
mod method;
mod pattern;
mod policy;
mod request;
mod rule;
mod unix_socket;

pub use address::{AddressClass, SPECIAL_PURPOSE_V4, SPECIAL_PURPOSE_V6, SpecialPurpose};
pub use authority::{Authority, AuthorityError};
pub use decision::{Decision, Handling, Reach, Reason, Source, Verdict};
pub use domain_set::{DomainSet, Listed};
pub use explain::Explanation;
pub use field::{FieldClass, Scrutiny, ends_here, ends_here_in_answers, is_same_field};
pub use hook::{
    Ambiguity, Fields, HeaderNameText, HookId, HookMethod, HookMiss, HookRequest, HookSpec,
    HookVerdict, Hooks, MissedClause, NotAToken, PathFlaw, PathPrefix, PathPrefixError,
    ValuePattern, ValuePatternError, WildcardError,
};
pub use host::{Host, HostError, Ipv6Host, Name};
pub use local_addresses::{LocalAddresses, NoLocalAddresses, is_local_address};
pub use method::{Content, Mode, ModeError, defines_content, is_read_only};
pub use pattern::{ListKind, Pattern, PatternError};
pub use policy::{Interception, Policy, PolicyError, PolicySpec};
pub use request::{Hooked, Protocol, Request};
pub use rule::{ConfigLine, Rule, RuleId, RuleRef};
pub use unix_socket::{
    ListedUnixSocket, RelativePath, UnixSocketList, UnixSocketLists, UnixSocketPath,
    UnixSocketRequest, UnixSocketSupport,
};
