//! The `ktstr` program; see `ktstr::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ktstr::cli::ktstr()
}
