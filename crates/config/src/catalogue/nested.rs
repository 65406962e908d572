//! The keys of hooks and actions (SPEC M9).

use super::row::{KeyRow, Spelling, TopTable};

const HOOK: &[Spelling] = &[Spelling::own(&[TopTable::Hook])];
const ACTION: &[Spelling] = &[Spelling::own(&[TopTable::Action])];
const INJECTION: &[Spelling] = &[Spelling::own(&[TopTable::Injection])];

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
];
