//! A terminal of the command's own, between the command and the launcher's terminal (SPEC J9, Q6). This is what the
//! loop of `process` needs of it. The relay itself is in `terminal`.

use nix::poll::{PollFd, PollTimeout};

/// Moves what is typed and what is shown between two terminals. None of its functions waits.
pub(crate) trait TerminalRelay {
    /// The descriptors to wait for.
    fn watched(&self) -> Vec<PollFd<'_>>;
    /// How long to wait for them at most.
    fn timeout(&self) -> PollTimeout;
    /// Moves what can be moved.
    fn serve(&mut self);
    /// The window of the launcher's terminal has another size.
    fn resized(&mut self);
    /// Gives the launcher's terminal back, until it is taken again.
    fn release(&mut self);
    /// Takes the launcher's terminal, if this process is in the foreground.
    fn take(&mut self);
    /// Shows the rest of the output, and gives the launcher's terminal back. The command has ended.
    fn finish(&mut self);
}
