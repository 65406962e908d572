//! Standard input as the file that `check` judges.

use std::io::Read as _;
use std::path::Path;

use codex_network_control::ReloadProblem;

/// Its name in messages.
pub(super) const NAME: &str = "<stdin>";
/// One byte more than a configuration may have, so that a longer one is recognised.
const MAX_INPUT: u64 = (64 << 20) + 1;

/// Whether a path on the command line means standard input.
pub(super) fn is(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads it to its end, within the limit of a configuration.
pub(super) fn read() -> Result<String, ReloadProblem> {
    let about = |message: String| ReloadProblem {
        file: NAME.to_owned(),
        text: format!("error: {NAME}: {message}"),
        ..ReloadProblem::placeless(&message)
    };
    let mut bytes = Vec::new();
    let mut input = std::io::stdin().lock().take(MAX_INPUT);
    if let Err(error) = input.read_to_end(&mut bytes) {
        return Err(about(format!("cannot be read: {error}")));
    }
    String::from_utf8(bytes).map_err(|_| about("is not UTF-8, as TOML files are".to_owned()))
}
