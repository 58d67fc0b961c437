//! Python with the packages of `tests/python/requirements.txt`: programs of others that check our files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::ktstr::target_folder;

/// The python of a virtual environment with those packages, made below the target folder when it is first asked for.
///
/// # Panics
/// When the host has no python, or pip reaches no package index: with what is missing. A test never passes without.
pub fn python() -> Command {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let python = PYTHON.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/venv");
        let made = Command::new(script).arg(target_folder().join("python")).output();
        let made = made.expect("a shell for tests/python/venv");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        String::from_utf8(made.stdout).expect("a path").trim_end().into()
    });
    let mut command = Command::new(python);
    // Our own modules lie among the sources: nothing is left there.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_packages() {
        let output = python().args(["-c", "import drgn, xxhash, zstandard"]).output().expect("python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn a_host_without_python_is_told_what_to_install() {
        let empty = tempfile::tempdir().expect("a folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/venv");
        // Only what the script itself needs to begin.
        std::os::unix::fs::symlink("/usr/bin/dirname", empty.path().join("dirname")).expect("a link");
        let mut command = Command::new("/bin/sh");
        command.arg(script).arg(empty.path().join("new")).env("PATH", empty.path());
        let output = command.output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains("no python3") && said.contains("python3-venv"),
            "{said}"
        );
        assert!(!empty.path().join("new").exists());
    }
}
