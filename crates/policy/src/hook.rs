//! Hooks: what may be asked of a host whose requests are looked at one by one inside TLS (SPEC M9,
//! M10).
//!
//! A hook names one host and says which methods, paths, query values and fields it is for. A host
//! with hooks answers to nothing else: a request that no hook is for is refused, and so is one that
//! could be read in two ways. The first hook that is for a request wins, in the order of the
//! specification; what it then does to the request is not known here. The texts that a hook is
//! written in are read in `text`, wildcards are matched in `glob`, and requests are read in `target`.

mod ambiguity;
mod glob;
mod query;
mod target;
mod text;

use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::host::Host;
use crate::policy::Origin;
use target::Target;

pub use ambiguity::Ambiguity;
pub use target::PathFlaw;
pub use text::{
    HeaderNameText, HookMethod, NotAToken, PathPrefix, PathPrefixError, ValuePattern,
    ValuePatternError, WildcardError,
};

/// One hook as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSpec {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is written, when that is known.
    pub origin: Option<Origin>,
    /// The host that it is for, exactly.
    pub host: Host,
    /// Methods, one of which the request must have. None of them is `CONNECT`.
    pub methods: Vec<HookMethod>,
    /// Beginnings, one of which the request's path must have.
    pub path_prefixes: Vec<PathPrefix>,
    /// Names in the query, each with its values. A request must carry each name, and every
    /// occurrence of it must have one of the values.
    pub query: Vec<(String, Vec<ValuePattern>)>,
    /// Fields, each with its values: as for the query; without values the field must only be there.
    pub headers: Vec<(HeaderNameText, Vec<ValuePattern>)>,
}

/// A set of hooks, ready to be asked. The default has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// In the order in which they are tried.
    hooks: Vec<HookSpec>,
    /// Each host's hooks, in the same order.
    by_host: HashMap<Host, Vec<HookId>>,
}

/// Names a hook of one set of [`Hooks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HookId(usize);

/// A request inside TLS interception, as hooks see it.
#[derive(Clone, Copy)]
pub struct HookRequest<'a> {
    /// The host that it is for.
    pub host: &'a Host,
    /// Its method. Methods are case-sensitive (RFC 9110 section 9.1).
    pub method: &'a str,
    /// The request-target in origin-form, path and query as they came (RFC 9112 section 3.2.1).
    pub target: &'a str,
    /// Its header fields.
    pub fields: &'a dyn Fields,
}

/// The header fields of a request.
pub trait Fields {
    /// Gives the value of each field of this name, which is in lower case, in their order.
    fn for_each_value(&self, name: &str, each: &mut dyn FnMut(&[u8]));
}

/// What hooks say about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookVerdict {
    /// The host has no hooks: they say nothing.
    NotHooked,
    /// This hook is for the request.
    Matched(HookId),
    /// The host has hooks, and none is for the request: it is refused with `mitm_hook_denied`.
    NoMatch,
    /// The same, because the request could be read in more than one way.
    Ambiguous(Ambiguity),
}

impl HookId {
    /// The hook's number in the order of the specification, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

impl Hooks {
    /// Compiles hooks. Their order is that in which they are tried.
    pub fn compile(specs: Vec<HookSpec>) -> Self {
        let mut by_host: HashMap<Host, Vec<HookId>> = HashMap::new();
        for (index, spec) in specs.iter().enumerate() {
            let ids = by_host.entry(spec.host.clone()).or_default();
            ids.push(HookId(index));
        }
        Self {
            hooks: specs,
            by_host,
        }
    }

    /// Whether a host has hooks.
    pub fn has(&self, host: &Host) -> bool {
        self.by_host.contains_key(host)
    }

    /// Which hook a request is for: the first of its host that covers the request.
    ///
    /// A path that could be read in two ways, which are those of [`PathFlaw`], is covered by no hook.
    /// Neither is a query with a name by which servers take another method, unless the hook judges that
    /// name; nor, by a hook that looks at queries, one of the other [`Ambiguity`]s. Costs time in
    /// proportion to the request and the hooks of its host, whatever their patterns.
    pub fn judge(&self, request: &HookRequest<'_>) -> HookVerdict {
        let Some(ids) = self.by_host.get(request.host) else {
            return HookVerdict::NotHooked;
        };
        let target = match Target::read(request.target) {
            Ok(target) => target,
            Err(flaw) => return HookVerdict::Ambiguous(Ambiguity::Path(flaw)),
        };
        let mut refused = HookVerdict::NoMatch;
        for id in ids {
            match self.hooks[id.0].covers(request, &target) {
                Ok(true) => return HookVerdict::Matched(*id),
                Ok(false) => {}
                Err(ambiguity) => refused = HookVerdict::Ambiguous(ambiguity),
            }
        }
        refused
    }

    /// The hook of an id that these hooks gave.
    pub fn get(&self, id: HookId) -> Option<&HookSpec> {
        self.hooks.get(id.0)
    }

    /// All hooks, in the order in which they are tried.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (HookId, &HookSpec)> {
        self.hooks
            .iter()
            .enumerate()
            .map(|(index, spec)| (HookId(index), spec))
    }

    /// How many hooks there are.
    pub fn len(&self) -> usize {
        self.hooks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }
}

impl HookSpec {
    /// An ambiguity is told only by a hook that covers the rest of the request.
    fn covers(&self, request: &HookRequest<'_>, target: &Target<'_>) -> Result<bool, Ambiguity> {
        let method = |one: &HookMethod| one.as_str() == request.method;
        let beginning = |one: &PathPrefix| one.covers(&target.path);
        let covers = self.methods.iter().any(method)
            && self.path_prefixes.iter().any(beginning)
            && self
                .headers
                .iter()
                .all(|(name, values)| has_field(request.fields, name, values));
        if !covers {
            return Ok(false);
        }
        target.query.check_overrides(&self.query)?;
        target.query.has(&self.query)
    }
}

/// Whether a field is there, and all of its occurrences have one of the values. A second field with
/// another value may be the one that the origin reads.
fn has_field(fields: &dyn Fields, name: &HeaderNameText, values: &[ValuePattern]) -> bool {
    let (mut seen, mut others) = (false, false);
    fields.for_each_value(name.as_str(), &mut |value| {
        seen = true;
        let text = core::str::from_utf8(value);
        others |= !text.is_ok_and(|text| values.iter().any(|pattern| pattern.covers(text)));
    });
    seen && (values.is_empty() || !others)
}
