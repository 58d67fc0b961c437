//! Writing to stdout.

use std::io::{self, Write};

use anyhow::Context;

/// Write `text` to stdout. A reader that has seen enough (`ktstr replay TRACE | head`) is no error.
///
/// # Errors
/// When it cannot be written for another reason.
pub fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("could not write to stdout"),
        _ => Ok(()),
    }
}

/// Write `value` to stdout as indented JSON.
///
/// # Errors
/// As [`write`].
pub fn write_json(value: &serde_json::Value) -> anyhow::Result<()> {
    write(&format!("{value:#}\n"))
}
