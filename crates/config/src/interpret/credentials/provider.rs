//! One `credentials.NAME`: its keys and their values. The configuration names a source and never contains
//! a value, so a line that may hold one is left out of messages.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use codex_network_policy::{HookMethod, NotAToken};

use crate::catalogue::{self, TopTable, ZeroDuration};
use crate::certificate_variables::CERTIFICATE_VARIABLES;
use crate::child_variables::ChildVariables;
use crate::credentials::{
    CredentialId, CredentialPattern, CredentialProfile, CredentialProvider, CredentialSource,
    Destination, DestinationError, DestinationSource, Placement, UrlForm, VariableName,
};
use crate::diagnostic::{Problems, quoted, shown};
use crate::dialect::{RawSetting, as_key, nearest, report_unknown};
use crate::injected_field;
use crate::read;
use crate::text::TextSpan;
use crate::toml_tree::{TomlEntry, TomlNode, TomlTable, TomlValue};

/// How long a command may run by default.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time limit of a program. Reading the configuration waits for it.
const MAX_COMMAND_TIMEOUT: Duration = Duration::from_secs(20);
/// Shortest time for which the output of a program is good. It is read again ahead of the end.
const MIN_COMMAND_TTL: Duration = Duration::from_secs(15);
/// Variables of the proxy's own that no credential can be in begin like this.
const OWN_VARIABLES: &str = "CODEX_NETWORK_";
/// Names under which a value is often written.
const VALUES: [&str; 5] = ["value", "secret", "token", "password", "key"];

/// A provider as written, with the places that later checks point at.
pub(super) struct WrittenProvider {
    pub(super) provider: CredentialProvider,
    /// The place of each variable.
    pub(super) variables: Vec<TextSpan>,
    /// The destinations that the configuration lists, with their places.
    pub(super) destinations: Vec<(Destination, TextSpan)>,
}

/// Reads one provider.
pub(super) fn provider(
    entry: &TomlEntry<'_>,
    problems: &mut Problems<'_>,
) -> Option<WrittenProvider> {
    let table = read::table(RawSetting::of(entry), problems)?;
    let is_known = |top, table: &TomlTable<'_>| {
        let known = catalogue::names_in(top, "");
        table.iter().all(|key| known.contains(&&*key.name))
    };
    let has_known_source = match table.get("source").map(|source| &source.node.value) {
        Some(TomlValue::Table(source)) => is_known(TopTable::CredentialSource, source),
        _ => true,
    };
    if is_known(TopTable::Credential, table) && has_known_source {
        return read_provider(entry, table, problems);
    }
    // The value of an unknown key is often the credential itself.
    problems.without_excerpts(|problems| read_provider(entry, table, problems))
}

fn read_provider(
    entry: &TomlEntry<'_>,
    table: &TomlTable<'_>,
    problems: &mut Problems<'_>,
) -> Option<WrittenProvider> {
    let path = format!("….credentials.{}", shown(&as_key(&entry.name)));
    let id = CredentialId::parse(&entry.name);
    if let Err(error) = id {
        let message = format!("{}: {error}", quoted(&entry.name));
        problems.error(entry.at, &message, "");
    }
    report_unknown_keys(TopTable::Credential, table, &path, problems);
    let setting = |name: &str| table.get(name).map(RawSetting::of);
    let ready = match setting("use") {
        Some(setting) => Some(profile(setting, problems)?),
        None => None,
    };
    let base = ready.and_then(|profile| profile.provider(id.clone().ok()?));
    let variables = match (setting("env"), &base) {
        (Some(setting), _) => variables(setting, problems),
        (None, Some(base)) => {
            // The profile names them, so they count as written where it is chosen.
            let at = setting("use").map_or(entry.at, |setting| setting.node.at);
            base.variables
                .iter()
                .map(|name| (name.clone(), at))
                .collect()
        }
        (None, None) => Vec::new(),
    };
    if variables.is_empty() && setting("env").is_none() {
        let message = format!("the credential {} has no `env`", quoted(&entry.name));
        problems.error(
            entry.at,
            &message,
            "write for example `env = \"API_TOKEN\"`",
        );
    }
    let listed = setting("url_prefixes").map(|setting| destinations(setting, problems));
    let from =
        setting("url_prefix_from_env").map(|setting| destination_variable(setting, problems));
    let is_placed = listed.is_some() || from.is_some();
    if !is_placed && base.is_none() {
        let message = format!("the credential {} has no destination", quoted(&entry.name));
        let help = "write for example `url_prefixes = [\"https://api.example.com\"]`";
        problems.error(entry.at, &message, help);
    }
    let listed = listed.unwrap_or_default();
    let placement = placement(table, problems);
    let patterns = setting("patterns").map(|setting| patterns(setting, problems));
    let source = setting("source").map(|setting| source(setting, &path, problems));
    let methods = setting("methods").map(|setting| methods(setting, problems));
    let require = setting("require").map(|setting| read::boolean(setting, problems));
    let (names, places) = variables.into_iter().unzip();
    let (destinations, mut destinations_from) = match &base {
        Some(base) if !is_placed => (base.destinations.clone(), base.destinations_from.clone()),
        _ => {
            let destinations: Vec<_> = listed.iter().map(|(one, _)| one.clone()).collect();
            (destinations, from.flatten().into_iter().collect())
        }
    };
    let source = source.unwrap_or(Some(CredentialSource::Environment))?;
    if source.is_read_with_the_configuration() && !destinations_from.is_empty() {
        // A user would send the credential of another one to a host of his own choice.
        destinations_from = Vec::new();
        let help = "write for example `url_prefixes = [\"https://api.example.com\"]`";
        if destinations.is_empty() {
            let message = format!(
                "the credential {} has no destination: launchers add none to a credential that they do not give",
                quoted(&entry.name)
            );
            problems.error(entry.at, &message, help);
        } else if let Some(from) = setting("url_prefix_from_env") {
            let message = "`url_prefix_from_env` has no effect: launchers add no destination to a credential \
                           that they do not give";
            problems.warning(from.at, message, help);
        }
    }
    let placements = match (placement?, base) {
        (Some(placement), _) => vec![placement],
        (None, Some(base)) => base.placements,
        (None, None) => vec![Placement::Bearer],
    };
    Some(WrittenProvider {
        provider: CredentialProvider {
            id: id.ok()?,
            variables: names,
            patterns: patterns.unwrap_or_default(),
            destinations,
            destinations_from,
            placements,
            source,
            methods,
            require: require.flatten().unwrap_or(false),
        },
        variables: places,
        destinations: listed,
    })
}

/// Errors for the keys that a table does not have. A value of a credential does not belong there.
fn report_unknown_keys(
    table: TopTable,
    entries: &TomlTable<'_>,
    path: &str,
    problems: &mut Problems<'_>,
) {
    let known = catalogue::names_in(table, "");
    for entry in entries.in_order() {
        if known.contains(&&*entry.name) {
            continue;
        }
        let is_value = VALUES.contains(&&*entry.name);
        let help = is_value.then(|| {
            "the configuration cannot contain a credential: name its variable in `env`, or its `source`"
                .to_owned()
        });
        report_unknown(&known, path, entry, help, problems);
    }
}

fn profile(
    setting: RawSetting<'_>,
    problems: &mut Problems<'_>,
) -> Option<&'static CredentialProfile> {
    let name = read::text(setting, problems)?;
    let found = CredentialProfile::find(name);
    if found.is_none() {
        let names: Vec<&str> = CredentialProfile::all()
            .map(|profile| profile.name)
            .collect();
        let help = match nearest(name, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the profiles are {}", names.join(", ")),
        };
        let message = format!("unknown profile {}", quoted(name));
        problems.error(setting.node.at, &message, &help);
    }
    found
}

/// One string or a list of strings that is not empty.
fn one_or_more<'t>(
    setting: RawSetting<'t>,
    problems: &mut Problems<'_>,
) -> Vec<(&'t str, &'t TomlNode<'t>)> {
    match &setting.node.value {
        TomlValue::String(text) => vec![(&**text, setting.node)],
        _ => non_empty(setting, problems),
    }
}

fn non_empty<'t>(
    setting: RawSetting<'t>,
    problems: &mut Problems<'_>,
) -> Vec<(&'t str, &'t TomlNode<'t>)> {
    if matches!(&setting.node.value, TomlValue::Array(items) if items.is_empty()) {
        let message = format!("{} is empty", quoted(setting.name));
        problems.error(setting.node.at, &message, "list something");
    }
    read::strings(setting, problems)
}

fn variables(
    setting: RawSetting<'_>,
    problems: &mut Problems<'_>,
) -> Vec<(VariableName, TextSpan)> {
    let mut variables: Vec<(VariableName, TextSpan)> = Vec::new();
    for (text, node) in one_or_more(setting, problems) {
        let Some(variable) = variable(setting, text, node, problems) else {
            continue;
        };
        if let Some(why) = taken(variable.as_str()) {
            let message = format!("{} cannot hold a credential: {why}", quoted(text));
            problems.error(node.at, &message, "");
        } else if variables.iter().any(|(other, _)| *other == variable) {
            let message = format!("{} is listed twice", quoted(text));
            problems.error(node.at, &message, "keep one of them");
        } else {
            variables.push((variable, node.at));
        }
    }
    variables
}

fn variable(
    setting: RawSetting<'_>,
    text: &str,
    node: &TomlNode<'_>,
    problems: &mut Problems<'_>,
) -> Option<VariableName> {
    let variable = VariableName::parse(text);
    if let Err(error) = variable {
        // It may be the credential itself.
        problems.without_excerpts(|problems| {
            let message = format!("{}: {error}", quoted(setting.name));
            problems.error(node.at, &message, "");
        });
    }
    variable.ok()
}

/// Why a variable cannot hold a credential.
fn taken(name: &str) -> Option<&'static str> {
    if name == "PATH" || name.ends_with("_PATH") {
        return Some("it is a list of directories");
    }
    let is_set = ChildVariables::names().chain(CERTIFICATE_VARIABLES.iter().copied());
    let is_set = is_set.into_iter().any(|own| own == name);
    (is_set || name.starts_with(OWN_VARIABLES)).then_some("the proxy sets it")
}

fn patterns(setting: RawSetting<'_>, problems: &mut Problems<'_>) -> Vec<CredentialPattern> {
    let mut patterns = Vec::new();
    for (text, node) in non_empty(setting, problems) {
        match CredentialPattern::parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                let message = format!(
                    "`patterns`: {}: {}",
                    quoted(text),
                    shown(&error.to_string())
                );
                problems.error(node.at, &message, "");
            }
        }
    }
    patterns
}

fn destinations(
    setting: RawSetting<'_>,
    problems: &mut Problems<'_>,
) -> Vec<(Destination, TextSpan)> {
    let mut destinations = Vec::new();
    for (text, node) in non_empty(setting, problems) {
        match Destination::parse(text) {
            Ok(destination) => destinations.push((destination, node.at)),
            Err(error) => {
                let help = match error {
                    DestinationError::Wildcard | DestinationError::TopLevel => {
                        "write for example \"*.example.com\""
                    }
                    _ => "write for example \"https://api.example.com/v1\"",
                };
                if text.contains('@') {
                    // It may be a URL with a password.
                    problems.without_excerpts(|problems| {
                        problems.error(node.at, &format!("`url_prefixes`: {error}"), help);
                    });
                    continue;
                }
                let message = format!(
                    "`url_prefixes`: {}: {}",
                    quoted(text),
                    shown(&error.to_string())
                );
                problems.error(node.at, &message, help);
            }
        }
    }
    destinations
}

fn destination_variable(
    setting: RawSetting<'_>,
    problems: &mut Problems<'_>,
) -> Option<DestinationSource> {
    let text = read::text(setting, problems)?;
    let variable = variable(setting, text, setting.node, problems)?;
    Some(DestinationSource::Variable(variable, UrlForm::Destination))
}

/// `auth` and the keys that belong to one form of it: the outer `None` after an error, the inner one if
/// none of them is written.
#[expect(
    clippy::option_option,
    reason = "an error is not the same as a default"
)]
fn placement(table: &TomlTable<'_>, problems: &mut Problems<'_>) -> Option<Option<Placement>> {
    const WORDS: &[(&str, &str)] = &[
        ("bearer", "bearer"),
        ("token", "token"),
        ("basic", "basic"),
        ("header", "header"),
    ];
    let setting = |name: &str| table.get(name).map(RawSetting::of);
    let auth = match setting("auth") {
        Some(setting) => Some(read::word(setting, WORDS, problems)?),
        None => None,
    };
    let mut fits = true;
    for (key, form) in [
        ("header", "header"),
        ("prefix", "header"),
        ("username", "basic"),
    ] {
        if let Some(setting) = setting(key).filter(|_| auth != Some(form)) {
            let message = format!("`{key}` belongs to `auth = {form:?}`");
            problems.error(setting.at, &message, "");
            fits = false;
        }
    }
    if !fits {
        return None;
    }
    Some(match auth {
        None => None,
        Some("token") => Some(Placement::Token),
        Some("basic") => {
            let username = match setting("username") {
                Some(setting) => Some(username(setting, problems)?),
                None => None,
            };
            Some(Placement::Basic { username })
        }
        Some("header") => {
            let Some(name) = setting("header") else {
                let at = setting("auth")?.at;
                problems.error(at, "`auth = \"header\"` needs `header`", "name the field");
                return None;
            };
            let name = injected_field::name(name, problems);
            let prefix = match setting("prefix") {
                Some(setting) => injected_field::prefix(setting, problems)?.to_owned(),
                None => String::new(),
            };
            Some(Placement::Header {
                name: name?,
                prefix,
            })
        }
        Some(_) => Some(Placement::Bearer),
    })
}

/// A user name of Basic authentication (RFC 7617 section 2).
fn username(setting: RawSetting<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let name = read::text(setting, problems)?;
    if name.contains(|c: char| c == ':' || c.is_control()) {
        let message = "`username` has neither a colon nor a control character";
        problems.error(setting.node.at, message, "");
        return None;
    }
    Some(name.to_owned())
}

fn methods(setting: RawSetting<'_>, problems: &mut Problems<'_>) -> Vec<HookMethod> {
    let mut methods = Vec::new();
    for (text, node) in non_empty(setting, problems) {
        let why: Cow<'_, str> = match HookMethod::parse(text) {
            Ok(method) => {
                methods.push(method);
                continue;
            }
            Err(NotAToken::Connect) => "no credential goes into a CONNECT request".into(),
            Err(NotAToken::Trace) => {
                "the answer to TRACE is the request with its credential".into()
            }
            Err(error) => error.to_string().into(),
        };
        let message = format!("`methods`: {}: {why}", quoted(text));
        problems.error(node.at, &message, "");
    }
    methods
}

fn source(
    setting: RawSetting<'_>,
    path: &str,
    problems: &mut Problems<'_>,
) -> Option<CredentialSource> {
    let table = match &setting.node.value {
        TomlValue::String(text) if text == "env" => return Some(CredentialSource::Environment),
        TomlValue::Table(table) => table,
        _ => {
            let help = "write `source = { file = \"/path\" }`, `{ command = [\"/path\"] }` or `{ systemd_credential = \"NAME\" }`";
            // It may be the credential itself.
            problems.without_excerpts(|problems| {
                problems.error(setting.node.at, "`source` must be \"env\" or a table", help);
            });
            return None;
        }
    };
    let path = format!("{path}.source");
    report_unknown_keys(TopTable::CredentialSource, table, &path, problems);
    let setting_of = |name: &str| table.get(name).map(RawSetting::of);
    for key in ["timeout", "ttl"] {
        if let Some(setting) = setting_of(key).filter(|_| table.get("command").is_none()) {
            let message = format!("`{key}` belongs to `command`");
            problems.error(setting.at, &message, "");
        }
    }
    let sources = ["file", "command", "systemd_credential"];
    let mut written = sources.iter().filter_map(|name| setting_of(name));
    let (Some(one), None) = (written.next(), written.next()) else {
        let message = "`source` needs exactly one of `file`, `command` and `systemd_credential`";
        problems.error(setting.node.at, message, "");
        return None;
    };
    match one.name {
        "file" => {
            let text = read::text(one, problems)?;
            Some(CredentialSource::File(absolute(
                one,
                text,
                one.node.at,
                problems,
            )?))
        }
        "command" => {
            let argv = non_empty(one, problems);
            let (program, node) = argv.first()?;
            absolute(one, program, node.at, problems)?;
            if let Some((_, node)) = argv.iter().find(|(text, _)| text.contains('\0')) {
                let message = "`command` contains a NUL character, which no argument can contain";
                problems.error(node.at, message, "");
                return None;
            }
            let mut duration = |name: &str| match setting_of(name) {
                Some(setting) => Some(Some(read::duration(
                    setting,
                    ZeroDuration::Refused,
                    problems,
                )?)),
                None => Some(None),
            };
            let (timeout, ttl) = (duration("timeout")?, duration("ttl")?);
            if timeout.is_some_and(|timeout| timeout > MAX_COMMAND_TIMEOUT) {
                let message = "`timeout` is more than 20 seconds, and reading the configuration waits for the program";
                problems.error(
                    setting.node.at,
                    message,
                    "write for example `timeout = \"10s\"`",
                );
                return None;
            }
            if ttl.is_some_and(|ttl| ttl < MIN_COMMAND_TTL) {
                let message = "`ttl` is less than 15 seconds: the program would run too often";
                problems.error(setting.node.at, message, "write for example `ttl = \"1h\"`");
                return None;
            }
            Some(CredentialSource::Command {
                argv: argv.iter().map(|(text, _)| (*text).to_owned()).collect(),
                timeout: timeout.unwrap_or(COMMAND_TIMEOUT),
                ttl,
            })
        }
        _ => {
            let name = read::text(one, problems)?;
            // systemd's rule: the name of a file.
            if name.len() > 255
                || name.contains('/')
                || matches!(name, "." | "..")
                || name.contains(char::is_control)
            {
                let message = "`systemd_credential` is a name and not a path";
                problems.error(one.node.at, message, "write the name of `LoadCredential=`");
                return None;
            }
            Some(CredentialSource::SystemdCredential(name.to_owned()))
        }
    }
}

fn absolute(
    setting: RawSetting<'_>,
    text: &str,
    at: TextSpan,
    problems: &mut Problems<'_>,
) -> Option<PathBuf> {
    if text.starts_with('/') && !text.contains('\0') {
        return Some(PathBuf::from(text));
    }
    let message = format!("{} needs an absolute path", quoted(setting.name));
    problems.error(at, &message, "");
    None
}
