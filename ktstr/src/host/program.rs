//! Finding the program of a scheduler that is declared by `binary` or `binary_path`.

use std::env;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

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
    #[error("{asked} names {}, which {what}", path.display())]
    NotAProgram {
        /// What gave the path.
        asked: String,
        /// The path.
        path: PathBuf,
        /// What there is, and what to do.
        what: String,
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
        Ok(workspace) => looked.push(match workspace.packages.iter().any(|package| package.name == name) {
            true => format!("the workspace's package `{name}`, which has no program"),
            false => {
                format!("packages of the workspace that have a program: {}", listed(&workspace.programs()))
            }
        }),
        Err(error) => looked.push(format!("the workspace of {}: {error}", places.manifest_dir.display())),
    }
    // `target/debug/deps/test-1` and `target/debug/`.
    let beside = places.exe.ancestors().skip(1).take(2).map(Path::to_owned);
    for folder in beside.chain(places.search.iter().cloned()) {
        let path = folder.join(name);
        // Folders are often twice on `PATH`.
        if looked.contains(&path.display().to_string()) {
            continue;
        }
        if is_program(&path) {
            return Ok(path);
        }
        looked.push(path.display().to_string());
    }
    Err(ProgramError::Nowhere { name: name.to_owned(), looked })
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
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
        false => {
            Err(ProgramError::NotAProgram { asked: asked(), path: path.to_owned(), what: no_program(path) })
        }
    }
}

/// What is at a path that is no program's, and what to do.
fn no_program(path: &Path) -> String {
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            "is not there: build it, or correct the path (that of a `binary_path` counts from the folder of its package)".to_owned()
        }
        Err(error) => format!("cannot be looked at: {error}"),
        Ok(meta) if !meta.is_file() => "is not a file: give the path of the program itself".to_owned(),
        Ok(_) => "may not be executed: give the path of a program, or make it one with `chmod +x`".to_owned(),
    }
}

/// Whether it is a file that can be executed.
pub fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn build(name: &str, dir: &Path) -> Result<PathBuf, ProgramError> {
    let mut command = Command::new(cargo());
    command.args(["build", "--message-format=json-render-diagnostics", "-p", name]);
    // What it says is looked at, and shown where escape sequences of a terminal are not.
    command.current_dir(dir).env("CARGO_TERM_COLOR", "never");
    let begin = format!("building scheduler {name}: cargo build -p {name}");
    let output = output_of(&mut command, &begin, TELL_AFTER, say)
        .map_err(|source| ProgramError::Cargo { name: name.to_owned(), source })?;
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

/// What cargo says, to its end. Where it takes longer than `patience`, `tell` is told `begin` and then what it compiles.
fn output_of(
    command: &mut Command,
    begin: &str,
    patience: Duration,
    tell: impl Fn(&str),
) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut out, err) = (child.stdout.take(), child.stderr.take());
    let stdout = thread::spawn(move || {
        let mut stdout = Vec::new();
        out.as_mut().map_or(Ok(0), |out| out.read_to_end(&mut stdout)).map(|_| stdout)
    });
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let lines = err.into_iter().flat_map(|err| BufReader::new(err).split(b'\n'));
        // The other end waits for all of them.
        lines.map_while(Result::ok).all(|line| sender.send(line).is_ok())
    });
    let (began, mut is_told, mut stderr) = (Instant::now(), false, Vec::new());
    loop {
        let wait = if is_told { Duration::MAX } else { patience.saturating_sub(began.elapsed()) };
        match lines.recv_timeout(wait) {
            Ok(line) => {
                let text = String::from_utf8_lossy(&line);
                if is_told && text.trim_start().starts_with("Compiling ") {
                    tell(text.trim());
                }
                stderr.extend_from_slice(&line);
                stderr.push(b'\n');
            }
            Err(RecvTimeoutError::Timeout) => {
                tell(begin);
                is_told = true;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let stdout = stdout.join().map_err(|_| io::Error::other("the thread that reads from it died"))??;
    Ok(Output { status: child.wait()?, stdout, stderr })
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
    use std::sync::Mutex;

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
    fn what_is_no_program_is_told_with_what_to_do() {
        let dir = TempDir::new().expect("a folder");
        fs::write(dir.path().join("text"), "").expect("a file");
        for (name, words) in [
            ("absent", "is not there: build it"),
            ("", "the path of the program itself"),
            ("text", "chmod +x"),
        ] {
            let path = dir.path().join(name);
            let error = at(&path, || "`binary_path`".to_owned()).expect_err(name).to_string();
            let begin = format!("`binary_path` names {}, which ", path.display());
            assert!(error.starts_with(&begin) && error.contains(words), "{error}");
        }
    }

    /// For minutes a person saw that something was built, and not that it moved on.
    #[test]
    fn who_waits_for_a_build_sees_what_is_compiled() {
        let script = "echo '   Compiling early v1' >&2; echo message; read line <pipe; \
                      printf '   Compiling b v1\\nwarning: unused\\n' >&2; echo more; exit 3";
        let folder = TempDir::new().expect("a folder");
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        let told = Mutex::new(Vec::new());
        // It goes on when it has been told that something is built.
        let tell = |text: &str| {
            told.lock().expect("a lock").push(text.to_owned());
            if text == "building" {
                fs::write(&pipe, "\n").expect("its reader");
            }
        };
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path());
        let output = output_of(&mut command, "building", Duration::from_millis(10), tell).expect("a shell");
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stdout, b"message\nmore\n");
        assert_eq!(output.stderr, b"   Compiling early v1\n   Compiling b v1\nwarning: unused\n");
        let told = told.into_inner().expect("a lock");
        // The first one may come after the patience has ended, on a busy host.
        assert!(
            matches!(told.as_slice(), [begin, .., last] if begin == "building" && last == "Compiling b v1"),
            "{told:?}"
        );
        // One that is fast says nothing.
        let mut command = Command::new("true");
        let quiet = |text: &str| panic!("it said {text}");
        assert!(output_of(&mut command, "building", Duration::from_secs(600), quiet).is_ok());
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
