//! Rows about hooks: the requests that they cover, and how they are written.

use codex_network_policy::{
    Fields, HeaderNameText, HookMethod, HookRequest, HookSpec, HookVerdict, Hooks, Host,
    PathPrefix, ValuePattern,
};
use serde::Deserialize;

use super::{Row, Table, expand, same};

/// A name with its values, as a list of one list: rows are one line each.
type Conditions = Vec<(String, Vec<String>)>;

/// One hook.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    name: String,
    #[serde(default = "api")]
    host: String,
    #[serde(default = "get")]
    methods: Vec<String>,
    #[serde(default = "root")]
    paths: Vec<String>,
    #[serde(default)]
    query: Conditions,
    #[serde(default)]
    headers: Conditions,
}

/// A request, and the hook that covers it: one of the table's `hooks`, or one written in the row.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    name: String,
    spec: String,
    methods: Option<Vec<String>>,
    paths: Option<Vec<String>>,
    query: Option<Conditions>,
    headers: Option<Conditions>,
    #[serde(default = "api")]
    host: String,
    #[serde(default = "get_alone")]
    method: String,
    target: String,
    #[serde(default)]
    fields: Vec<(String, String)>,
    /// The name of the hook (`this` for a hook that is written in the row); `none`; `ambiguous`, when
    /// no hook matches because servers differ; or `not hooked`.
    says: String,
}

/// A text, and how it is shown or what is wrong with it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    name: String,
    spec: String,
    method: Option<String>,
    field: Option<String>,
    path: Option<String>,
    value: Option<String>,
    is: Option<String>,
    error: Option<String>,
}

struct Sent<'a>(&'a [(String, String)]);

impl Fields for Sent<'_> {
    fn for_each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        for (field, value) in self.0 {
            if field.eq_ignore_ascii_case(name) {
                // As on the wire, where a field need not be UTF-8.
                let bytes: Vec<u8> = value
                    .chars()
                    .map(|c| u8::try_from(c).expect("Latin-1"))
                    .collect();
                each(&bytes);
            }
        }
    }
}

fn api() -> String {
    "api.example.com".to_owned()
}

fn get() -> Vec<String> {
    vec![get_alone()]
}

fn get_alone() -> String {
    "GET".to_owned()
}

fn root() -> Vec<String> {
    vec!["/".to_owned()]
}

impl Written {
    fn spec(&self) -> HookSpec {
        let values = |texts: &[String]| -> Vec<ValuePattern> {
            let values = texts.iter().map(|text| ValuePattern::parse(text));
            values.map(|value| value.expect("a value")).collect()
        };
        let methods = self.methods.iter().map(|text| HookMethod::parse(text));
        let paths = self
            .paths
            .iter()
            .map(|text| PathPrefix::parse(&expand(text)));
        let headers = self.headers.iter().map(|(name, texts)| {
            let name = HeaderNameText::parse(name).expect("a field name");
            (name, values(texts))
        });
        HookSpec {
            name: self.name.clone(),
            written_at: None,
            host: Host::parse(&self.host).expect("a host"),
            methods: methods.map(|method| method.expect("a method")).collect(),
            path_prefixes: paths.map(|path| path.expect("a path")).collect(),
            query: self
                .query
                .iter()
                .map(|(name, texts)| (name.clone(), values(texts)))
                .collect(),
            headers: headers.collect(),
        }
    }
}

impl Asked {
    pub(crate) fn check(table: &Table<Self>, row: &Self) -> Result<(), String> {
        let specs = match row.own() {
            Some(own) => vec![own.spec()],
            None => table.hooks.iter().map(Written::spec).collect(),
        };
        let hooks = Hooks::compile(specs);
        let host = Host::parse(&row.host).expect("a host");
        let target = expand(&row.target);
        let verdict = hooks.judge(&HookRequest {
            host: &host,
            method: &row.method,
            target: &target,
            fields: &Sent(&row.fields),
        });
        same("has hooks", hooks.has(&host), row.says != "not hooked")?;
        let said = match verdict {
            HookVerdict::NotHooked => "not hooked",
            HookVerdict::NoMatch => "none",
            HookVerdict::Ambiguous(_) => "ambiguous",
            HookVerdict::Matched(id) => &hooks.get(id).expect("an id of these hooks").name,
        };
        same("says", said, &*row.says)
    }

    fn own(&self) -> Option<Written> {
        let written = self.methods.is_some()
            || self.paths.is_some()
            || self.query.is_some()
            || self.headers.is_some();
        written.then(|| Written {
            name: "this".to_owned(),
            host: api(),
            methods: self.methods.clone().unwrap_or_else(get),
            paths: self.paths.clone().unwrap_or_else(root),
            query: self.query.clone().unwrap_or_default(),
            headers: self.headers.clone().unwrap_or_default(),
        })
    }
}

impl Text {
    pub(crate) fn check(&self) -> Result<(), String> {
        let shown = match (&self.method, &self.field, &self.path, &self.value) {
            (Some(text), None, None, None) => show(HookMethod::parse(text)),
            (None, Some(text), None, None) => show(HeaderNameText::parse(text)),
            (None, None, Some(text), None) => show(PathPrefix::parse(text)),
            (None, None, None, Some(text)) => show(ValuePattern::parse(text)),
            _ => return Err("the row needs one text".to_owned()),
        };
        let expected = match (&self.is, &self.error) {
            (Some(meaning), None) => Ok(meaning.clone()),
            (None, Some(error)) => Err(error.clone()),
            _ => return Err("the row needs either `is` or `error`".to_owned()),
        };
        same("reading", shown, expected)
    }
}

fn show<T: ToString, E: std::fmt::Debug>(read: Result<T, E>) -> Result<String, String> {
    read.map(|meaning| meaning.to_string())
        .map_err(|error| format!("{error:?}"))
}

impl Row for Asked {
    fn title(&self) -> (&str, &str) {
        (&self.name, &self.spec)
    }
}

impl Row for Text {
    fn title(&self) -> (&str, &str) {
        (&self.name, &self.spec)
    }
}
