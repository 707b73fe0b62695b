//! What commands print. The reader may close its end at any time, as `head` does.

use std::io::{self, ErrorKind, Write as _};
use std::ops::ControlFlow;

/// Prints a text to standard output. A closed standard output is no error: its reader has seen enough.
///
/// # Errors
/// One line for the operator, for example if the disk is full.
pub fn print(text: &str) -> Result<(), String> {
    print_more(text).map(drop)
}

/// As [`print`], for a part of a long text. Breaks off if standard output is closed.
///
/// # Errors
/// As for [`print`].
pub fn print_more(text: &str) -> Result<ControlFlow<()>, String> {
    let mut stdout = io::stdout().lock();
    finish(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Prints clap's answer to `--help` or `--version`, in colour on a terminal.
///
/// # Errors
/// As for [`print`].
pub fn print_help(help: &clap::Error) -> Result<(), String> {
    finish(help.print().and_then(|()| io::stdout().flush())).map(drop)
}

/// Prints a line to standard error. If that fails, nobody is left to report it to.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn finish(printed: io::Result<()>) -> Result<ControlFlow<()>, String> {
    match printed {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(format!("standard output cannot be written: {error}")),
    }
}
