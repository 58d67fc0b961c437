//! What has to be done so that the guest is as before.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use rustix::thread::CpuSet as KernelSet;

use super::error::Fault;
use crate::cgroup::Cgroup;

/// Which scheduler is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attached {
    /// The one under test.
    #[default]
    Own,
    /// A staged one, by name.
    Staged(String),
    /// None: the kernel's own schedules.
    None,
}

/// A way back. Made before the change, so that there is one when the change fails half-way.
#[derive(Debug)]
pub enum Undo {
    /// The file gets what it had; `None`: it was not there.
    File { path: PathBuf, before: Option<String> },
    /// The CPU is on again, or off.
    Online { cpu: u32, online: bool },
    /// The cgroup's CPUs; empty: none of its own.
    Cpuset { name: String, before: String },
    /// The cgroup's weight.
    CpuWeight { name: String, before: String },
    /// The processes go back.
    Move { to: Cgroup, pids: Vec<Pid> },
    /// A thread's CPUs.
    Affinity { tid: Pid, before: KernelSet },
    /// The cgroup is frozen again, or not.
    Freeze { name: String, freeze: bool },
    /// The number in the kernel's memory.
    Kernel { target: String, before: i128 },
    /// This scheduler is attached.
    Scheduler { before: Attached },
    /// The cgroup, with its workers, goes.
    Remove { name: String },
}

impl Undo {
    /// It lets a cgroup go on.
    pub fn thaws(&self) -> bool {
        matches!(self, Self::Freeze { freeze: false, .. })
    }

    /// It brings this process back.
    pub fn moves(&self, pid: Pid) -> bool {
        matches!(self, Self::Move { pids, .. } if pids.contains(&pid))
    }

    /// Both are about the same state of the same thing.
    pub fn is_of_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { path: one, .. }, Self::File { path: two, .. }) => one == two,
            (Self::Online { cpu: one, .. }, Self::Online { cpu: two, .. }) => one == two,
            (Self::Affinity { tid: one, .. }, Self::Affinity { tid: two, .. }) => one == two,
            (Self::Cpuset { name: one, .. }, Self::Cpuset { name: two, .. })
            | (Self::CpuWeight { name: one, .. }, Self::CpuWeight { name: two, .. })
            | (Self::Freeze { name: one, .. }, Self::Freeze { name: two, .. }) => one == two,
            (Self::Kernel { target: one, .. }, Self::Kernel { target: two, .. }) => one == two,
            (Self::Scheduler { .. }, Self::Scheduler { .. }) => true,
            _ => false,
        }
    }

    /// The cgroup that it is about, and without which it is nothing.
    pub fn cgroup(&self) -> Option<&str> {
        match self {
            Self::Cpuset { name, .. }
            | Self::CpuWeight { name, .. }
            | Self::Freeze { name, .. }
            | Self::Remove { name } => Some(name),
            Self::Move { to, .. } => Some(to.name()),
            Self::File { .. }
            | Self::Online { .. }
            | Self::Affinity { .. }
            | Self::Kernel { .. }
            | Self::Scheduler { .. } => None,
        }
    }
}

/// What it does, in short, for errors.
impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "write_file {}", path.display()),
            Self::Online { cpu, online: true } => write!(f, "offline {cpu}"),
            Self::Online { cpu, online: false } => write!(f, "online {cpu}"),
            Self::Cpuset { name, .. } => write!(f, "set_cpuset {name}"),
            Self::CpuWeight { name, .. } => write!(f, "set_cpu_weight {name}"),
            Self::Move { to, .. } => write!(f, "move_tasks {}", to.name()),
            Self::Affinity { tid, .. } => write!(f, "set_affinity of {tid}"),
            Self::Freeze { name, freeze: true } => write!(f, "unfreeze {name}"),
            Self::Freeze { name, freeze: false } => write!(f, "freeze {name}"),
            Self::Kernel { target, .. } => write!(f, "write_kernel {target}"),
            Self::Scheduler { .. } => f.write_str("what was done with the scheduler"),
            Self::Remove { name } => write!(f, "add_cgroup {name}"),
        }
    }
}

/// Write a text to a file. Returns the way back, where the file can be read.
///
/// # Errors
/// A file that cannot be written.
pub fn write_file(path: &Path, text: &str) -> Result<Option<Undo>, Fault> {
    let before = match fs::read_to_string(path) {
        Ok(text) => Some(Some(chosen(&text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(None),
        // There are files that can only be written, and nothing leads back.
        Err(_) => None,
    };
    fs::write(path, text).map_err(|source| Fault::File {
        what: format!("write `{}` to", text.trim_end()),
        path: path.to_owned(),
        source,
    })?;
    Ok(before.map(|before| Undo::File { path: path.to_owned(), before }))
}

/// Give a file what it had.
///
/// # Errors
/// A file that cannot be written, or not removed.
pub fn restore_file(path: &Path, before: Option<&str>) -> Result<(), Fault> {
    let (what, done) = match before {
        Some(text) => (format!("write `{}` back to", text.trim_end()), fs::write(path, text)),
        None => ("remove".to_owned(), fs::remove_file(path)),
    };
    done.map_err(|source| Fault::File { what, path: path.to_owned(), source })
}

/// What is to be written so that a file reads `text`: of the choices that the kernel lists on one line, the one in brackets.
fn chosen(text: &str) -> String {
    let line = text.trim_end();
    let in_brackets = (!line.contains('\n'))
        .then(|| line.split_ascii_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']')))
        .flatten();
    in_brackets.map_or_else(|| text.to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_what_it_had() {
        let dir = tempfile::TempDir::new().expect("a folder");
        for (before, restored) in [
            (Some("60\n"), Some("60\n")),
            (Some("always [madvise] never\n"), Some("madvise")),
            (Some("[a]\n[b]\n"), Some("[a]\n[b]\n")),
            (None, None),
        ] {
            let file = dir.path().join("file");
            let _ = fs::remove_file(&file);
            if let Some(text) = before {
                fs::write(&file, text).expect("a file");
            }
            let undo = write_file(&file, "10").expect("a write");
            assert_eq!(fs::read_to_string(&file).expect("the file"), "10");
            let Some(Undo::File { path, before }) = undo else { panic!("no way back: {undo:?}") };
            restore_file(&path, before.as_deref()).expect("a way back");
            assert_eq!(fs::read_to_string(&file).ok().as_deref(), restored);
        }
    }

    #[test]
    fn a_write_that_fails_says_what_and_where() {
        let error = write_file(Path::new("/proc/no/such/file"), "1\n").expect_err("no folder").to_string();
        assert_eq!(error, "could not write `1` to /proc/no/such/file");
    }
}
