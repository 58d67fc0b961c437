//! Running the host's package programs.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::cache::Lock;
use super::error::{Error, Result};

/// Lines of a failed program's output that its error shows.
const TAIL_LINES: usize = 6;
const POLL: Duration = Duration::from_millis(20);

/// Runs `command` to its end and returns what it printed to stdout; `tick` is called all the while.
///
/// The child holds `lock` too: when this process is killed, what the child still writes to is not
/// taken over by another before the child is gone.
pub(super) fn run(command: Command, doing: &str, lock: &Lock, tick: impl FnMut()) -> Result<String> {
    let program = PathBuf::from(command.get_program());
    let stderr = tempfile::tempfile().map_err(|source| Error::Spawn { program, source })?;
    run_into(command, doing, lock, &stderr, TAIL_LINES, tick)
}

/// As [`run`], with what it prints to stderr in a file of the caller's, of which an error shows the last `tail` lines.
pub(super) fn run_into(
    mut command: Command,
    doing: &str,
    lock: &Lock,
    stderr: &File,
    tail: usize,
    mut tick: impl FnMut(),
) -> Result<String> {
    let program = command.get_program().to_owned();
    let spawn_error = |source| Error::Spawn { program: program.clone().into(), source };
    let mut stdout = tempfile::tempfile().map_err(spawn_error)?;
    command
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(lock.share()?)
        .stdout(stdout.try_clone().map_err(spawn_error)?)
        .stderr(stderr.try_clone().map_err(spawn_error)?);
    let mut child = command.spawn().map_err(spawn_error)?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(spawn_error)? {
            break status;
        }
        tick();
        thread::sleep(POLL);
    };
    let output = text(&mut stdout).map_err(spawn_error)?;
    if status.success() {
        return Ok(output);
    }
    let errors = text(&mut &*stderr).map_err(spawn_error)?;
    // apt's and dpkg's words for ENOSPC and for apt's own forecast of it.
    if ["No space left on device", "enough free space", "Disk quota exceeded"]
        .iter()
        .any(|t| errors.contains(t))
    {
        return Err(Error::DiskFull { path: lock.staging_path().to_owned() });
    }
    let lines: Vec<&str> = errors.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(Error::Failed {
        doing: doing.to_owned(),
        program: program.to_string_lossy().into_owned(),
        status: status.to_string(),
        output: lines[lines.len().saturating_sub(tail)..].join("\n"),
    })
}

fn text(file: &mut (impl Read + Seek)) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::cache::Cache;
    use crate::provision::progress::Progress;

    fn sh(script: &str) -> Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let lock = cache.lock("x", Progress::Silent).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, "try it", &lock, || {})
    }

    #[test]
    fn output_of_success_is_returned_and_stdin_is_empty() {
        assert_eq!(sh("cat; echo fine; echo noise >&2").unwrap(), "fine\n");
    }

    #[test]
    fn a_failure_shows_the_last_lines_of_its_errors() {
        let text = sh("for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; exit 3").unwrap_err().to_string();
        assert!(text.contains("cannot try it: /bin/sh ended with exit status: 3"), "{text}");
        assert!(text.ends_with("line 7") && text.contains("line 2") && !text.contains("line 1"), "{text}");
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let error = sh("echo 'dpkg-deb: error: No space left on device' >&2; exit 2").unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let lock = cache.lock("x", Progress::Silent).unwrap();
        let error = run(Command::new("/nonexistent/apt-get"), "x", &lock, || {}).unwrap_err();
        assert_eq!(error.to_string(), "cannot run /nonexistent/apt-get");
    }
}
