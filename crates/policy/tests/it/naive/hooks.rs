//! A second implementation of hooks, as slow and as plain as possible. `Hooks::judge` is compared
//! with it, here and in `tests/fuzz`.

use codex_network_policy::{
    Ambiguity, Fields, HeaderNameText, HookMethod, HookRequest, HookSpec, HookVerdict, Hooks, Host,
    MissedClause, PathPrefix, ValuePattern,
};

/// The parts of a hook for GET, one of each kind, and of a request that it covers.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) header: String,
    pub(crate) target: String,
    pub(crate) field: String,
}

struct Field<'a>(&'a str);

impl Fields for Field<'_> {
    fn for_each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        if name == "h" {
            each(self.0.as_bytes());
        }
    }
}

impl Scene {
    /// Whether the hook covers the request; `None` when the hook cannot be written like this.
    pub(crate) fn judged(&self) -> Option<bool> {
        let host = Host::parse("a.example").ok()?;
        let hooks = Hooks::compile(vec![HookSpec {
            name: "hook".to_owned(),
            written_at: None,
            host: host.clone(),
            methods: vec![HookMethod::parse("get").ok()?],
            path_prefixes: vec![PathPrefix::parse(&self.path).ok()?],
            query: vec![("q".to_owned(), vec![ValuePattern::parse(&self.query).ok()?])],
            headers: vec![(
                HeaderNameText::parse("H").ok()?,
                vec![ValuePattern::parse(&self.header).ok()?],
            )],
        }]);
        let request = HookRequest {
            host: &host,
            method: "GET",
            target: &self.target,
            fields: &Field(&self.field),
        };
        let verdict = hooks.judge(&request);
        // The words for people say the same (SPEC K5).
        let missed: Vec<_> = hooks
            .misses(&request)
            .into_iter()
            .flat_map(|miss| miss.clauses)
            .collect();
        match verdict {
            HookVerdict::NotHooked => panic!("the host has a hook"),
            HookVerdict::NoMatch => assert!(!missed.is_empty(), "{self:?}"),
            HookVerdict::Matched(_) | HookVerdict::Ambiguous(Ambiguity::Path(_)) => {
                assert_eq!(missed, [], "{self:?}");
            }
            HookVerdict::Ambiguous(ambiguity) => {
                assert_eq!(missed, [MissedClause::Ambiguous(ambiguity)], "{self:?}");
            }
        }
        Some(matches!(verdict, HookVerdict::Matched(_)))
    }

    /// The expected answer.
    pub(crate) fn expected(&self) -> bool {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let Some(path) = decode(path) else {
            return false;
        };
        // Decoding again, removing dots or cutting parameters off gives the same path.
        let odd = |c: char| "%\\#?;/".contains(c) || c.is_control();
        let dots = |segment: &str| {
            !segment.is_empty()
                && segment
                    .trim_matches(|c: char| c == '.' || c == ' ')
                    .is_empty()
        };
        let segments: Vec<&str> = path.split('/').collect();
        let last = segments.len() - 1;
        let is_sound = path.starts_with('/')
            && !path.contains(LOOKALIKES)
            && segments
                .iter()
                .all(|segment| !segment.contains(odd) && !dots(segment))
            && !(1..last).any(|number| segments[number].is_empty())
            && !self
                .target
                .to_lowercase()
                .split('?')
                .next()
                .is_some_and(|raw| raw.contains("%2f"));
        is_sound
            && begins(&self.path, &path)
            && !overrides_method(query)
            && self.query_matches(query)
            && is(&self.header, &self.field)
    }

    fn query_matches(&self, query: &str) -> bool {
        let mut values = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(decoded), Some(value)) = (decode_bytes(name), decode_bytes(value)) else {
                return false;
            };
            if decoded.iter().any(|byte| b"&=;#%".contains(byte)) {
                return false;
            }
            if decoded == b"q" {
                values.push((pair, String::from_utf8(value)));
            } else if is_alike(&decoded, "q") {
                return false;
            }
        }
        let good = |(pair, value): &(&str, Result<String, _>)| {
            let value = value.as_deref();
            !pair.contains('+')
                && value
                    .is_ok_and(|value| !value.contains(char::is_control) && is(&self.query, value))
        };
        !query.contains([';', '#']) && !values.is_empty() && values.iter().all(good)
    }
}

/// Some of the characters that become delimiters: those that the generated texts have.
const LOOKALIKES: [char; 3] = ['\u{ff0f}', '\u{2025}', '\u{ff1b}'];

/// Names that override methods.
const OVERRIDES: [&str; 8] = [
    "_method",
    "_httpmethod",
    "http-method-override",
    "method-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
];

/// Whether a query has such a name, or one that cannot be read.
fn overrides_method(query: &str) -> bool {
    query
        .split(['&', ';'])
        .filter_map(|pair| pair.split('=').next())
        .any(|name| match decode_bytes(name) {
            Some(name) => OVERRIDES.iter().any(|known| is_alike(&name, known)),
            None => true,
        })
}

/// Whether a server could read a name as the other, or as a part of it: some cut names off where an
/// index or a member begins.
fn is_alike(name: &[u8], other: &str) -> bool {
    let name = String::from_utf8_lossy(name);
    let shortened = |text: &str| -> Vec<String> {
        let ends = text.match_indices(['[', ']', '.', '\0']);
        let mut all: Vec<String> = ends
            .map(|(end, _)| letters(&text[..end]))
            .filter(|letters| !letters.is_empty())
            .collect();
        all.push(letters(text));
        all
    };
    shortened(&name).contains(&letters(other)) || shortened(other).contains(&letters(&name))
}

/// The letters and digits of a name, without case, with a mark where other characters separate
/// them.
fn letters(name: &str) -> String {
    let folded: Vec<String> = name
        .split(|c: char| !c.is_alphanumeric())
        .filter(|run| !run.is_empty())
        .map(|run| run.to_uppercase().to_lowercase())
        .collect();
    folded.join("_")
}

/// Whether a path begins with a prefix.
fn begins(prefix: &str, path: &str) -> bool {
    let (starred, text) = split(prefix);
    let decoded: Vec<String> = text.split('*').filter_map(decode).collect();
    let path: Vec<char> = path.chars().collect();
    if !starred {
        return path.starts_with(&decoded.join("*").chars().collect::<Vec<_>>());
    }
    let form = form(decoded.iter().map(String::as_str));
    // A star that is a whole segment does not match an empty one.
    let is_empty = |end: &usize| text.ends_with("/*") && path[..*end].ends_with(&['/']);
    (0..=path.len())
        .filter(|end| !is_empty(end))
        .any(|end| matches(&form, &path[..end]))
}

/// Whether a value matches a pattern.
fn is(pattern: &str, value: &str) -> bool {
    let (starred, text) = split(pattern);
    if !starred {
        return text == value;
    }
    matches(&form(text.split('*')), &value.chars().collect::<Vec<_>>())
}

fn split(text: &str) -> (bool, &str) {
    match text.split_once(':') {
        Some(("pattern", rest)) => (true, rest),
        Some(("literal", rest)) => (false, rest),
        _ => (false, text),
    }
}

/// The characters of a pattern, with `None` for each star.
fn form<'p>(pieces: impl Iterator<Item = &'p str>) -> Vec<Option<char>> {
    let pieces: Vec<Vec<_>> = pieces
        .map(|piece| piece.chars().map(Some).collect())
        .collect();
    pieces.join(&None)
}

fn matches(form: &[Option<char>], text: &[char]) -> bool {
    match (form, text) {
        ([None, rest @ ..], _) => {
            matches(rest, text)
                || matches!(text, [first, more @ ..] if *first != '/' && matches(form, more))
        }
        ([Some(one), rest @ ..], [first, more @ ..]) => one == first && matches(rest, more),
        (form, text) => form.is_empty() && text.is_empty(),
    }
}

fn decode(text: &str) -> Option<String> {
    String::from_utf8(decode_bytes(text)?).ok()
}

fn decode_bytes(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2)?;
        if !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    Some(bytes)
}
