//! Keeps what clients send from changing how a log looks: every line is escaped on its way out.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// Writes log lines with every character escaped that a terminal or an editor does not show as itself:
/// control characters above ASCII, and those that reverse text or have no width.
///
/// The formatters escape the ASCII ones. They do so themselves, since colours need some of them.
#[derive(Clone, Debug)]
pub(super) struct Printable<W> {
    to: W,
    format: LogFormat,
}

impl<W> Printable<W> {
    /// Writes lines of a format to what `to` makes.
    pub(super) fn new(to: W, format: LogFormat) -> Self {
        Self { to, format }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Printable<W> {
    type Writer = Printable<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Printable { to: self.to.make_writer(), format: self.format }
    }
}

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // The formatters write whole lines, in UTF-8.
        let text = String::from_utf8_lossy(lines);
        self.to.write_all(escape(&text, self.format).as_bytes())?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The text with `\u{202e}` for U+202E. In JSON the backslash is escaped, so that a reader of the value sees
/// the same.
fn escape(text: &str, format: LogFormat) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let backslash = match format {
        LogFormat::Text => r"\",
        LogFormat::Json => r"\\",
    };
    let mut escaped = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if is_unprintable(c) {
            // Writing to a string does not fail.
            let _ = write!(escaped, "{backslash}u{{{:x}}}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

fn is_unprintable(c: char) -> bool {
    c >= '\u{7f}' && c.escape_debug().ne([c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_do_not_show_as_themselves_are_escaped() {
        for (c, code) in [
            ('\u{7f}', "7f"),
            ('\u{85}', "85"),
            ('\u{9b}', "9b"),
            ('\u{ad}', "ad"),
            ('\u{200b}', "200b"),
            ('\u{200f}', "200f"),
            ('\u{2028}', "2028"),
            ('\u{202e}', "202e"),
            ('\u{2066}', "2066"),
            ('\u{feff}', "feff"),
            ('\u{e0041}', "e0041"),
        ] {
            let line = format!("a{c}b");
            assert_eq!(escape(&line, LogFormat::Text), format!(r"a\u{{{code}}}b"));
            assert_eq!(escape(&line, LogFormat::Json), format!(r"a\\u{{{code}}}b"));
        }
    }

    #[test]
    fn letters_of_every_script_and_colours_stay() {
        for line in
            ["plain \"text\" \\ ' \t\n", "\u{1b}[32mINFO\u{1b}[0m", "Zoë 東京 Ωμέγα שלום 🙂"]
        {
            assert_eq!(escape(line, LogFormat::Text), line);
            assert!(matches!(escape(line, LogFormat::Json), Cow::Borrowed(_)));
        }
    }
}
