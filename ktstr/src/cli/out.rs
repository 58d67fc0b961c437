//! Writing to stdout and stderr.
//!
//! **Invariant:** all output of the commands goes through here (clippy refuses `println!` and its like in this folder), and
//! no control character of a trace, a file name or a program's output reaches the terminal.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use ktstr_replay::text::{plain_json, plain_lines};
use serde::{Serialize, Serializer};

/// Write lines to stdout. A reader that closed the pipe (`ktstr replay TRACE | head`) is not an error.
///
/// # Errors
/// When it cannot be written for another reason.
pub fn write(text: &str) -> anyhow::Result<()> {
    send(plain_lines(text).as_bytes())
}

/// Write `value` to stdout as indented JSON.
///
/// # Errors
/// As [`write()`]; a value that JSON does not have.
pub fn write_json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("could not make JSON")?;
    send((plain_json(&text) + "\n").as_bytes())
}

/// A path in JSON. One that is not UTF-8 is told as nearly as it can be; serde refuses it, and `json!` panics of that.
pub fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// As [`path()`], for fields of what is written.
///
/// # Errors
/// Those of the serializer.
pub fn path_as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Write text of our own, which programs are to have byte for byte.
///
/// # Errors
/// As [`write()`].
pub fn write_as_is(text: &[u8]) -> anyhow::Result<()> {
    send(text)
}

/// Tell people something on stderr.
pub fn note(text: &str) {
    let mut line = plain_lines(text);
    line.push('\n');
    // When stderr is closed, there is nowhere to report it.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Tell of an error and its causes on stderr.
pub fn error(error: &anyhow::Error) {
    note(&format!("error: {error:#}"));
}

/// Stdout for what is too long to be held together: complete lines go out as they come.
pub fn stream(form: Form) -> Lines<impl Write> {
    Lines { form, line: Vec::new(), out: io::BufWriter::new(io::stdout().lock()) }
}

/// What a stream's lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text.
    Text,
    /// JSON: what is escaped stays the same value.
    Json,
}

/// Sends each line when it is complete, without characters that a terminal obeys.
pub struct Lines<W> {
    form: Form,
    line: Vec<u8>,
    out: W,
}

impl<W: Write> Lines<W> {
    fn send(&mut self, len: usize) -> io::Result<()> {
        // A line ends where a character does, so nothing is torn.
        let text = String::from_utf8_lossy(&self.line[..len]);
        let text = match self.form {
            Form::Text => plain_lines(&text),
            Form::Json => plain_json(&text),
        };
        self.line.drain(..len);
        self.out.write_all(text.as_bytes())
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let held = self.line.len();
        self.line.extend_from_slice(bytes);
        if let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') {
            self.send(held + last + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send(self.line.len())?;
        self.out.flush()
    }
}

fn send(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("could not write to stdout"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_come_in_pieces_are_sent_whole_and_harmless() {
        for (form, shown) in
            [(Form::Text, "a\\u{1b}[2Jb\u{e4}\nlast\\u{9b}"), (Form::Json, "a\\u001b[2Jb\u{e4}\nlast\\u009b")]
        {
            let mut lines = Lines { form, line: Vec::new(), out: Vec::new() };
            for byte in "a\u{1b}[2Jb\u{e4}\nlast\u{9b}".bytes() {
                lines.write_all(&[byte]).expect("memory");
            }
            lines.flush().expect("memory");
            assert_eq!(String::from_utf8(lines.out).expect("UTF-8"), shown);
        }
    }
}
