//! Finding the program of a scheduler that is declared by `binary` or `binary_path`.

use std::env;
use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ktstr_record::provision::cargo;
use serde::Deserialize;

use super::environment;
use super::say::say;
use crate::workspace::Workspace;

/// How long a build takes before it is said.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// A path that was given leads to no program.
    #[error("{asked} names {}, which is not an executable file", path.display())]
    NotAProgram {
        /// What gave the path.
        asked: String,
        /// The path.
        path: PathBuf,
    },
    /// It is nowhere.
    #[error("there is no program `{name}`. Looked at:{}\nset {variable} to its path, or put it at one of these places", list(looked), variable = environment::SCHEDULER)]
    Nowhere {
        /// Its name.
        name: String,
        /// All places that were looked at, and what was there.
        looked: Vec<String>,
    },
    /// The package of that name does not build.
    #[error("`cargo build -p {name}` failed ({status}):\n{stderr}")]
    Build {
        /// The package.
        name: String,
        /// Exit status.
        status: String,
        /// What cargo said.
        stderr: String,
    },
    /// cargo could not be run.
    #[error("could not run `cargo build -p {name}`")]
    Cargo {
        /// The package.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

/// Where to look for a scheduler declared by `binary`.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    /// `KTSTR_SCHEDULER`.
    pub given: Option<&'a Path>,
    /// Folder of the package that declares the scheduler.
    pub manifest_dir: &'a Path,
    /// The test binary.
    pub exe: &'a Path,
    /// Folders of `PATH`.
    pub search: Vec<PathBuf>,
}

/// A line of `cargo build --message-format=json`. Source: "External tools" in the Cargo book.
#[derive(Deserialize)]
struct BuildMessage {
    executable: Option<PathBuf>,
}

/// Find the program of a scheduler declared by `binary`: the one given, else that of the workspace's package,
/// else beside the test binary, else on `PATH`.
///
/// # Errors
/// [`ProgramError`]; a program that is nowhere lists all places.
pub fn find(name: &str, places: &Places<'_>) -> Result<PathBuf, ProgramError> {
    if let Some(path) = places.given {
        return at(path, || environment::SCHEDULER.to_owned());
    }
    let mut looked = Vec::new();
    match Workspace::around(places.manifest_dir) {
        Ok(workspace) if workspace.has_program(name) => return build(name, places.manifest_dir),
        Ok(workspace) => {
            let names: Vec<&str> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
            looked.push(format!("packages with a program in the workspace (it has {})", names.join(", ")));
        }
        Err(error) => looked.push(format!("the workspace of {}: {error}", places.manifest_dir.display())),
    }
    // `target/debug/deps/test-1` and `target/debug/`.
    let beside = places.exe.ancestors().skip(1).take(2).map(Path::to_owned);
    for folder in beside.chain(places.search.iter().cloned()) {
        let path = folder.join(name);
        if is_program(&path) {
            return Ok(path);
        }
        looked.push(path.display().to_string());
    }
    Err(ProgramError::Nowhere { name: name.to_owned(), looked })
}

/// The folders of `PATH`.
pub fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// The program at a path.
///
/// # Errors
/// [`ProgramError::NotAProgram`].
pub fn at(path: &Path, asked: impl FnOnce() -> String) -> Result<PathBuf, ProgramError> {
    match is_program(path) {
        true => Ok(path.to_owned()),
        false => Err(ProgramError::NotAProgram { asked: asked(), path: path.to_owned() }),
    }
}

/// Whether it is a file that can be executed.
pub fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn build(name: &str, dir: &Path) -> Result<PathBuf, ProgramError> {
    let mut command = Command::new(cargo());
    command.args(["build", "--message-format=json-render-diagnostics", "-p", name]);
    command.current_dir(dir).stdin(Stdio::null());
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(command.output()));
    let output = match ended.recv_timeout(TELL_AFTER) {
        Ok(output) => output,
        Err(_) => {
            say(&format!("building scheduler {name}: cargo build -p {name}"));
            ended.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that waits for it died")))
        }
    };
    let output = output.map_err(|source| ProgramError::Cargo { name: name.to_owned(), source })?;
    if !output.status.success() {
        return Err(ProgramError::Build {
            name: name.to_owned(),
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
        });
    }
    built_program(&output.stdout, name).ok_or_else(|| ProgramError::Nowhere {
        name: name.to_owned(),
        looked: vec![format!("what `cargo build -p {name}` built: no program of that name")],
    })
}

/// The program named `name` among what cargo says that it built.
fn built_program(stdout: &[u8], name: &str) -> Option<PathBuf> {
    let lines = stdout.split(|byte| *byte == b'\n');
    let programs = lines.filter_map(|line| serde_json::from_slice::<BuildMessage>(line).ok()?.executable);
    let programs: Vec<PathBuf> = programs.collect();
    let named = programs.iter().find(|path| path.file_name().is_some_and(|file| file == name));
    // A package with one program of another name means that one.
    named.or_else(|| programs.first().filter(|_| programs.len() == 1)).cloned()
}

fn list(looked: &[String]) -> String {
    looked.iter().fold(String::new(), |mut text, place| {
        let _ = write!(text, "\n  - {place}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn make_program(path: &Path) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, "#!/bin/sh\n").expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn places<'a>(dir: &'a Path, exe: &'a Path) -> Places<'a> {
        Places { given: None, manifest_dir: dir, exe, search: vec![dir.join("bin")] }
    }

    #[test]
    fn beside_the_test_binary_comes_before_path() {
        let dir = TempDir::new().expect("a folder");
        let exe = dir.path().join("target/debug/deps/test-1");
        make_program(&dir.path().join("bin/scx_x"));
        let places = places(dir.path(), &exe);
        assert_eq!(find("scx_x", &places).expect("on PATH"), dir.path().join("bin/scx_x"));
        make_program(&dir.path().join("target/debug/scx_x"));
        assert_eq!(find("scx_x", &places).expect("beside"), dir.path().join("target/debug/scx_x"));
    }

    #[test]
    fn a_program_that_is_nowhere_lists_all_places() {
        let dir = TempDir::new().expect("a folder");
        let exe = dir.path().join("target/debug/deps/test-1");
        fs::create_dir_all(dir.path().join("bin/scx_x")).expect("a folder of that name");
        let error = find("scx_x", &places(dir.path(), &exe)).expect_err("nowhere").to_string();
        for place in ["workspace", "deps/scx_x", "debug/scx_x", "bin/scx_x", environment::SCHEDULER] {
            assert!(error.contains(place), "{place} is not in: {error}");
        }
    }

    #[test]
    fn a_given_path_wins_and_must_lead_to_a_program() {
        let dir = TempDir::new().expect("a folder");
        let exe = dir.path().join("test-1");
        let given = dir.path().join("mine");
        let places = Places { given: Some(&given), ..places(dir.path(), &exe) };
        assert!(matches!(find("scx_x", &places), Err(ProgramError::NotAProgram { .. })));
        make_program(&given);
        assert_eq!(find("scx_x", &places).expect("given"), given);
    }

    #[test]
    fn the_program_of_a_build_is_that_of_the_name_or_the_only_one() {
        let artifact =
            |path: &str| format!("{{\"reason\":\"compiler-artifact\",\"executable\":\"{path}\"}}\n");
        let both = [artifact("/t/other"), "not json\n".to_owned(), artifact("/t/scx_x")].concat();
        assert_eq!(built_program(both.as_bytes(), "scx_x"), Some(PathBuf::from("/t/scx_x")));
        assert_eq!(built_program(both.as_bytes(), "scx_y"), None);
        assert_eq!(built_program(artifact("/t/z").as_bytes(), "scx_y"), Some(PathBuf::from("/t/z")));
        assert_eq!(built_program(b"{\"executable\":null}\n", "scx_y"), None);
    }
}
