//! The keys of hooks and actions (SPEC M9), and of credentials (SPEC B5).

use super::row::{KeyRow, Spelling, TopTable};

const HOOK: &[Spelling] = &[Spelling::own(&[TopTable::Hook])];
const ACTION: &[Spelling] = &[Spelling::own(&[TopTable::Action])];
const INJECTION: &[Spelling] = &[Spelling::own(&[TopTable::Injection])];

const CREDENTIAL: &[Spelling] = &[Spelling::own(&[TopTable::Credential])];
const SOURCE: &[Spelling] = &[Spelling::own(&[TopTable::CredentialSource])];

pub(super) static ROWS: &[KeyRow] = &[
    KeyRow::nested(HOOK, "host", "text").about("The hook covers requests to exactly this host. Required."),
    KeyRow::nested(HOOK, "methods", "list of methods")
        .about("The methods that the hook covers. Required."),
    KeyRow::nested(HOOK, "path_prefixes", "list of prefixes").about(
        "How the decoded path begins. `pattern:` in front: each * stands for any characters of one segment; `literal:` in front: the rest is taken literally. Required.",
    ),
    KeyRow::nested(HOOK, "query", "table of names and lists of values")
        .by_default("{}")
        .about("Each name must be in the query with one of its values."),
    KeyRow::nested(HOOK, "headers", "table of names and lists of values")
        .by_default("{}")
        .about("Each header field must be there with one of its values; an empty list stands for any value."),
    KeyRow::nested(HOOK, "body", "reserved").about("An error."),
    KeyRow::nested(HOOK, "action", "list of names")
        .by_default("[]")
        .about("The actions that are applied to the request."),
    KeyRow::nested(ACTION, "strip_request_headers", "list of names")
        .by_default("[]")
        .about("Header fields to remove."),
    KeyRow::nested(ACTION, "inject_request_headers", "list of tables")
        .by_default("[]")
        .about("Header fields to add, each replacing all fields of its name."),
    KeyRow::nested(INJECTION, "name", "text").about("The field's name."),
    KeyRow::nested(INJECTION, "secret_env_var", "text")
        .about("The variable of the daemon's environment that holds the value. Exactly one of this and `secret_file`."),
    KeyRow::nested(INJECTION, "secret_file", "absolute path")
        .about("The file that holds the value."),
    KeyRow::nested(INJECTION, "prefix", "text")
        .by_default("\"\"")
        .about("Stands before the value."),
    KeyRow::nested(CREDENTIAL, "use", "text").about(
        "A ready profile, which the other keys change: anthropic, cargo, github, github-enterprise, gitlab, huggingface, npm, openai, pip, slack or twine. Cargo, npm, pip and twine take their destination from the tool's own configuration: the default registry or index alone, or the repository that twine selects.",
    ),
    KeyRow::nested(CREDENTIAL, "env", "text, or list of texts").about(
        "The variables that hold the credential. Required, unless the profile has some. Of several credentials for one variable, that of the later layer counts, and two in one layer are an error.",
    ),
    KeyRow::nested(CREDENTIAL, "patterns", "list of regular expressions")
        .by_default("[]")
        .about(
            "What the credential looks like, as a whole. A value that matches none of them is not this credential. Each pattern must have values with 128 random bits, of printable ASCII, so that a dummy can match it.",
        ),
    KeyRow::nested(CREDENTIAL, "url_prefixes", "list of destinations").about(
        "Where the credential may go: `[https://]host[:port][/path]`. `*.host` stands for the names below a host. The port is exact, 443 by default. A path covers what is below it, by whole segments. `http://` needs `dangerously_allow_plaintext_credential_injection`. This or `url_prefix_from_env` is required without a profile.",
    ),
    KeyRow::nested(CREDENTIAL, "url_prefix_from_env", "text").about(
        "The variable of the launcher's environment that holds one more destination.",
    ),
    KeyRow::nested(CREDENTIAL, "auth", "\"bearer\" | \"token\" | \"basic\" | \"header\"")
        .by_default("\"bearer\"")
        .about(
            "How requests carry it: `Authorization: Bearer`, `Authorization: token`, as user name or password of `Authorization: Basic`, or in a header field of its own.",
        ),
    KeyRow::nested(CREDENTIAL, "header", "text").about(
        "The name of that field. Required with `auth = \"header\"`, and an error without it.",
    ),
    KeyRow::nested(CREDENTIAL, "prefix", "text")
        .by_default("\"\"")
        .about("Stands before the credential in that field."),
    KeyRow::nested(CREDENTIAL, "username", "text").about(
        "The user name that the origin gets beside the credential, only with `auth = \"basic\"`. By default that of the request.",
    ),
    KeyRow::nested(CREDENTIAL, "source", "\"env\", or table")
        .by_default("\"env\"")
        .about("Where the real credential comes from. By default it is the value of the variable in the launcher's environment."),
    KeyRow::nested(CREDENTIAL, "methods", "list of methods")
        .by_default("all but TRACE")
        .about(
            "The methods of the requests that get the real credential. Such a request is refused if its query may make the server act on another method (`_method`).",
        ),
    KeyRow::nested(CREDENTIAL, "require", "boolean")
        .by_default("false")
        .about("Whether a request to a destination is refused if it does not carry the dummy."),
    KeyRow::nested(SOURCE, "file", "absolute path")
        .about("The file that holds the credential. Only its owner may read it. Exactly one of this, `command` and `systemd_credential`."),
    KeyRow::nested(SOURCE, "command", "list of texts").about(
        "A program, by its absolute path, and its arguments. Its standard output is the credential. It runs without a shell, in a clean environment, with the rights of the process that reads the configuration.",
    ),
    KeyRow::nested(SOURCE, "timeout", "duration")
        .by_default("\"10s\"")
        .about("How long the command may run, at most `20s`."),
    KeyRow::nested(SOURCE, "ttl", "duration")
        .by_default("until the next reload")
        .about("How long the output of the command is good, at least `15s`. It is read again ahead of the end."),
    KeyRow::nested(SOURCE, "systemd_credential", "text")
        .about("The name of a credential that the unit of the service loads."),
];
