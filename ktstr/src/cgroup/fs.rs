//! The cgroup file system. Source: `Documentation/admin-guide/cgroup-v2.rst`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// How long an emptied cgroup may stay busy: the kernel releases a dead task a little after it was reaped.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The cgroup hierarchy of the guest.
#[derive(Clone, Debug)]
pub struct Cgroups {
    root: PathBuf,
}

/// One cgroup. It stays until [`Cgroup::remove`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    name: String,
    path: PathBuf,
}

/// Why something could not be done with cgroups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A name that cannot be a folder, or that the kernel keeps for its own files.
    #[error(
        "`{name}` cannot be a cgroup's name: it needs at least one character, no `/`, and may not be `.` or `..` or begin with the name of a controller and a dot"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// There is one already.
    #[error("cgroup `{name}` exists already")]
    Exists {
        /// Its name.
        name: String,
    },
    /// The kernel does not offer a controller that is needed.
    #[error("controller `{controller}` is not in {}: the kernel offers `{offered}`", path.display())]
    Controller {
        /// The one that is needed.
        controller: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// Those that there are.
        offered: String,
    },
    /// A file or folder could not be used.
    #[error("could not {what} {}", path.display())]
    Io {
        /// What was tried.
        what: String,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Cgroups {
    /// Where guest-init mounts it.
    pub const GUEST_ROOT: &str = "/sys/fs/cgroup";

    /// The hierarchy mounted at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Make a cgroup below the root.
    ///
    /// # Errors
    /// A bad name, a name that is taken, and what the kernel refuses.
    pub fn create(&self, name: &str) -> Result<Cgroup, CgroupError> {
        check_name(name)?;
        let path = self.root.join(name);
        match fs::create_dir(&path) {
            Ok(()) => Ok(Cgroup { name: name.to_owned(), path }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(CgroupError::Exists { name: name.to_owned() })
            }
            Err(source) => Err(CgroupError::Io { what: "make the cgroup".to_owned(), path, source }),
        }
    }

    /// Give the children of the root the files of a controller (`cpu`, `cpuset`).
    ///
    /// # Errors
    /// A controller that the kernel does not offer, or will not enable.
    pub fn enable(&self, controller: &'static str) -> Result<(), CgroupError> {
        let path = self.root.join("cgroup.controllers");
        let offered = read(&path)?;
        if !offered.split_ascii_whitespace().any(|name| name == controller) {
            return Err(CgroupError::Controller { controller, path, offered: offered.trim().to_owned() });
        }
        write(&self.root.join("cgroup.subtree_control"), &format!("+{controller}"))
    }
}

impl Cgroup {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Write one of its files (`cpu.weight`, `cpuset.cpus`).
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn set(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        write(&self.path.join(file), value)
    }

    /// Read one of its files.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn get(&self, file: &str) -> Result<String, CgroupError> {
        read(&self.path.join(file)).map(|text| text.trim_end().to_owned())
    }

    /// Move a process into it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn add(&self, pid: Pid) -> Result<(), CgroupError> {
        self.set("cgroup.procs", &pid.as_raw_pid().to_string())
    }

    /// Remove it. Its processes must have ended; the kernel may take up to 2 s to release the last of them.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + REMOVE_TIMEOUT;
        loop {
            match fs::remove_dir(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    sleep(Duration::from_millis(1));
                }
                Err(source) => {
                    let what = "remove the cgroup".to_owned();
                    return Err(CgroupError::Io { what, path: self.path.clone(), source });
                }
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), CgroupError> {
    // The kernel's own files are `CONTROLLER.FILE`; a folder of such a name would clash (cgroup-v2.rst, "Avoid Name Collisions").
    let reserved =
        ["cgroup.", "cpu.", "cpuset.", "io.", "memory.", "pids.", "hugetlb.", "rdma.", "misc.", "irq."];
    let bad = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0', '\n']);
    match bad || reserved.iter().any(|prefix| name.starts_with(prefix)) {
        true => Err(CgroupError::Name { name: name.to_owned() }),
        false => Ok(()),
    }
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|source| CgroupError::Io {
        what: "read".to_owned(),
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    fs::write(path, value).map_err(|source| CgroupError::Io {
        what: format!("write `{value}` to"),
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn hierarchy() -> (TempDir, Cgroups) {
        let dir = TempDir::new().expect("a folder");
        let cgroups = Cgroups::at(dir.path());
        (dir, cgroups)
    }

    #[test]
    fn names_that_would_leave_the_root_or_clash_are_refused() {
        let (_dir, cgroups) = hierarchy();
        for name in ["", ".", "..", "a/b", "cgroup.procs", "cpu.max"] {
            assert!(matches!(cgroups.create(name), Err(CgroupError::Name { .. })), "{name}");
        }
        cgroups.create("cg_0").expect("a plain name");
    }

    #[test]
    fn a_taken_name_is_an_error() {
        let (_dir, cgroups) = hierarchy();
        cgroups.create("cg").expect("the first");
        assert!(matches!(cgroups.create("cg"), Err(CgroupError::Exists { .. })));
    }

    #[test]
    fn a_controller_that_is_not_offered_is_an_error_that_lists_those_that_are() {
        let (dir, cgroups) = hierarchy();
        fs::write(dir.path().join("cgroup.controllers"), "cpu io\n").expect("a file");
        let error = cgroups.enable("cpuset").expect_err("not offered").to_string();
        assert!(error.ends_with("the kernel offers `cpu io`"), "{error}");
        cgroups.enable("cpu").expect("offered");
        let written = fs::read_to_string(dir.path().join("cgroup.subtree_control")).expect("the file");
        assert_eq!(written, "+cpu");
    }

    #[test]
    fn a_refused_write_says_what_and_where() {
        let (dir, cgroups) = hierarchy();
        let cgroup = cgroups.create("cg").expect("a cgroup");
        fs::create_dir(dir.path().join("cg/cpu.weight")).expect("in the way");
        let error = cgroup.set("cpu.weight", "0").expect_err("a folder").to_string();
        assert!(error.starts_with("could not write `0` to") && error.ends_with("cg/cpu.weight"), "{error}");
    }
}
