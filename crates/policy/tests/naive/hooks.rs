//! What a hook covers once more, as slowly and as plainly as can be. It is what `Hooks::judge` is
//! compared with, here and in `tests/fuzz`.

use codex_network_policy::{
    Fields, HeaderNameText, HookMethod, HookRequest, HookSpec, HookVerdict, Hooks, Host,
    PathPrefix, ValuePattern,
};

/// A hook for GET with one of everything, and a request for it.
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
    /// What the hook says; nothing when it cannot be written like this.
    pub(crate) fn judged(&self) -> Option<bool> {
        let host = Host::parse("a.example").ok()?;
        let hooks = Hooks::compile(vec![HookSpec {
            name: "hook".to_owned(),
            origin: None,
            host: host.clone(),
            methods: vec![HookMethod::parse("get").ok()?],
            path_prefixes: vec![PathPrefix::parse(&self.path).ok()?],
            query: vec![("q".to_owned(), vec![ValuePattern::parse(&self.query).ok()?])],
            headers: vec![(
                HeaderNameText::parse("H").ok()?,
                vec![ValuePattern::parse(&self.header).ok()?],
            )],
        }]);
        let verdict = hooks.judge(&HookRequest {
            host: &host,
            method: "GET",
            target: &self.target,
            fields: &Field(&self.field),
        });
        assert_ne!(verdict, HookVerdict::NotHooked);
        Some(verdict != HookVerdict::NoMatch)
    }

    /// What it should say.
    pub(crate) fn expected(&self) -> bool {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let Some(path) = decode(path) else {
            return false;
        };
        // Nobody who decodes again, or takes dots away, comes to another path.
        let odd = |c: char| c == '%' || c == '\\' || c == '#' || c.is_control();
        let dots = |segment: &str| {
            ["", "/"].iter().any(|end| {
                let name = format!("{segment}{end}");
                name == "." || name == ".." || name.starts_with(".;") || name.starts_with("..;")
            })
        };
        let is_sound = path.starts_with('/')
            && !path.contains(odd)
            && !self
                .target
                .to_lowercase()
                .split('?')
                .next()
                .is_some_and(|raw| raw.contains("%2f"))
            && !path.split('/').any(dots);
        is_sound
            && begins(&self.path, &path)
            && self.query_matches(query)
            && is(&self.header, &self.field)
    }

    fn query_matches(&self, query: &str) -> bool {
        let mut values = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode_bytes(name), decode_bytes(value)) else {
                return false;
            };
            if name == b"q" {
                values.push((pair, String::from_utf8(value)));
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

/// Whether a path begins as a prefix says.
fn begins(prefix: &str, path: &str) -> bool {
    let (starred, text) = split(prefix);
    let decoded: Vec<String> = text.split('*').filter_map(decode).collect();
    let path: Vec<char> = path.chars().collect();
    if !starred {
        return path.starts_with(&decoded.join("*").chars().collect::<Vec<_>>());
    }
    let form = form(decoded.iter().map(String::as_str));
    (0..=path.len()).any(|end| matches(&form, &path[..end]))
}

/// Whether a value is as a pattern says.
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

/// Characters, and `None` for each star.
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
