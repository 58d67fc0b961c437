//! The cgroup file system. Source: `Documentation/admin-guide/cgroup-v2.rst`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// How long an emptied cgroup may stay busy: the kernel releases a dead task a little after it was reaped.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long processes may take to be frozen: each has to be scheduled once for it.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);

/// The cgroup hierarchy of the guest.
///
/// ```
/// use ktstr::prelude::*;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     let cgroup = ctx.cgroups.create("mine")?;
///     let mut workload = WorkloadHandle::spawn(&[WorkerGroup::new("mine", 2, WorkType::default())])?;
///     workload.start()?;
///     workload.stop_and_collect();
///     cgroup.remove()?;
///     Ok(AssertResult::pass())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Cgroups {
    /// Where the hierarchy is mounted.
    mount: PathBuf,
    /// The cgroup that all others are made in, below the mount; empty: in none.
    parent: String,
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
        "`{name}` cannot be a cgroup's name: between each `/` it needs at least one character, and may not be `.` or `..` or begin with the name of a controller and a dot"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The cgroup above it is not there.
    #[error("cgroup `{name}` has nothing to be in: make `{parent}` first")]
    Parent {
        /// Its name.
        name: String,
        /// The one that it would be in.
        parent: String,
    },
    /// The kernel gives cgroups inside of one with processes no controllers.
    #[error(
        "{} has processes of its own, so what is inside of it cannot have `{controller}`: put workers into inner cgroups only",
        path.display()
    )]
    HasProcesses {
        /// The cgroup outside.
        path: PathBuf,
        /// What was wanted inside.
        controller: &'static str,
    },
    /// The kernel lets only innermost cgroups have processes, where limits are set inside.
    #[error(
        "cgroup `{name}` may not have processes: of cgroups inside of each other, some with limits, the kernel lets only the innermost have \
         them; give the outer one `.workers(0)`"
    )]
    NotInnermost {
        /// Its name.
        name: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// It was not frozen, or not thawed, in time.
    #[error("cgroup `{name}` did not become {wanted} within {timeout:?}", wanted = if *freeze { "frozen" } else { "unfrozen" })]
    Freeze {
        /// Its name.
        name: String,
        /// What was wanted.
        freeze: bool,
        /// How long was waited.
        timeout: Duration,
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
    pub fn at(mount: impl Into<PathBuf>) -> Self {
        Self { mount: mount.into(), parent: String::new() }
    }

    /// The same, where all cgroups are made in `parent`, as `outer/inner`. It is made, if it is not there.
    ///
    /// # Errors
    /// A bad name, and what the kernel refuses.
    pub(crate) fn below(self, parent: &str) -> Result<Self, CgroupError> {
        let parent = parent.trim_matches('/');
        check_name(parent)?;
        let path = self.mount.join(parent);
        let failed =
            |source| CgroupError::Io { what: "make the cgroup".to_owned(), path: path.clone(), source };
        fs::create_dir_all(&path).map_err(failed)?;
        Ok(Self { parent: parent.to_owned(), ..self })
    }

    /// Where the hierarchy is mounted.
    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }

    /// The folder that cgroups are made in.
    pub fn root(&self) -> PathBuf {
        self.mount.join(&self.parent)
    }

    /// Make a cgroup below the root, or below another: `outer/inner`.
    ///
    /// # Errors
    /// A bad name, a name that is taken, an outer cgroup that is not there, and what the kernel refuses.
    pub fn create(&self, name: &str) -> Result<Cgroup, CgroupError> {
        check_name(name)?;
        let path = self.root().join(name);
        match fs::create_dir(&path) {
            Ok(()) => Ok(Cgroup { name: name.to_owned(), path }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(CgroupError::Exists { name: name.to_owned() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && name.contains('/') => {
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
                Err(CgroupError::Parent { name: name.to_owned(), parent })
            }
            Err(source) => Err(CgroupError::Io { what: "make the cgroup".to_owned(), path, source }),
        }
    }

    /// Give the cgroup `name`, and those beside it, the files of a controller (`cpu`, `cpuset`).
    ///
    /// # Errors
    /// A controller that the kernel does not offer, or will not enable: not below a cgroup that has processes of its own.
    pub fn enable(&self, controller: &'static str, name: &str) -> Result<(), CgroupError> {
        let path = self.mount.join("cgroup.controllers");
        let offered = read(&path)?;
        if !offered.split_ascii_whitespace().any(|name| name == controller) {
            return Err(CgroupError::Controller { controller, path, offered: offered.trim().to_owned() });
        }
        // From the root down to the cgroup that it is in.
        let mut outer = self.mount.clone();
        for inner in self.parent.split('/').filter(|part| !part.is_empty()).chain(name.split('/')) {
            match write(&outer.join("cgroup.subtree_control"), &format!("+{controller}")) {
                Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => {
                    return Err(CgroupError::HasProcesses { path: outer, controller });
                }
                enabled => enabled?,
            }
            outer.push(inner);
        }
        Ok(())
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

    /// Its processes.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn pids(&self) -> Result<Vec<Pid>, CgroupError> {
        let text = self.get("cgroup.procs")?;
        Ok(text.lines().filter_map(|line| line.trim().parse().ok().and_then(Pid::from_raw)).collect())
    }

    /// Stop all its processes where they are, or let them go on, and wait until that is so.
    ///
    /// # Errors
    /// What the kernel refuses; processes that did not stop within 10 s.
    pub fn freeze(&self, freeze: bool) -> Result<(), CgroupError> {
        self.set("cgroup.freeze", if freeze { "1" } else { "0" })?;
        let wanted = if freeze { "frozen 1" } else { "frozen 0" };
        let deadline = Instant::now() + FREEZE_TIMEOUT;
        while !self.get("cgroup.events")?.lines().any(|line| line == wanted) {
            if Instant::now() >= deadline {
                let (name, timeout) = (self.name.clone(), FREEZE_TIMEOUT);
                return Err(CgroupError::Freeze { name, freeze, timeout });
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Move a process into it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn add(&self, pid: Pid) -> Result<(), CgroupError> {
        self.set("cgroup.procs", &pid.as_raw_pid().to_string()).map_err(|error| self.told(error))
    }

    /// An error of moving a process into it. Source: `cgroup_procs_write_permission` and `cgroup_migrate_vet_dst` of
    /// kernel/cgroup/cgroup.c.
    fn told(&self, error: CgroupError) -> CgroupError {
        match error {
            CgroupError::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::Unsupported) =>
            {
                CgroupError::NotInnermost { name: self.name.clone(), source }
            }
            other => other,
        }
    }

    /// Kill whatever is in it or below it. The cgroup stays.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.set("cgroup.kill", "1")
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

/// Whether a name can be a cgroup's.
///
/// # Errors
/// [`CgroupError::Name`].
pub fn check_name(name: &str) -> Result<(), CgroupError> {
    // The kernel's own files are `CONTROLLER.FILE`; a folder of such a name would clash (cgroup-v2.rst, "Avoid Name Collisions").
    let reserved =
        ["cgroup.", "cpu.", "cpuset.", "io.", "memory.", "pids.", "hugetlb.", "rdma.", "misc.", "irq."];
    let is_bad = |part: &str| {
        part.is_empty()
            || part == "."
            || part == ".."
            || part.contains(['\0', '\n'])
            || reserved.iter().any(|prefix| part.starts_with(prefix))
    };
    match name.split('/').any(is_bad) {
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
    // Nothing at all would be no write.
    let bytes = if value.is_empty() { "\n" } else { value };
    fs::write(path, bytes).map_err(|source| CgroupError::Io {
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
        for name in ["", ".", "..", "/a", "a/", "a//b", "a/..", "cgroup.procs", "cpu.max", "a/cpu.max"] {
            assert!(matches!(cgroups.create(name), Err(CgroupError::Name { .. })), "{name}");
        }
        cgroups.create("cg_0").expect("a plain name");
        cgroups.create("cg_0/inner").expect("one inside of it");
        let error = cgroups.create("cg_1/inner").expect_err("nothing to be in").to_string();
        assert!(error.ends_with("make `cg_1` first"), "{error}");
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
        let error = cgroups.enable("cpuset", "cg").expect_err("not offered").to_string();
        assert!(error.ends_with("the kernel offers `cpu io`"), "{error}");
        cgroups.create("outer").expect("a cgroup");
        cgroups.enable("cpu", "outer/inner").expect("offered");
        for folder in ["", "outer"] {
            let file = dir.path().join(folder).join("cgroup.subtree_control");
            assert_eq!(fs::read_to_string(file).expect("the file"), "+cpu");
        }
    }

    #[test]
    fn cgroups_are_made_in_their_parent_and_have_its_controllers() {
        let (dir, cgroups) = hierarchy();
        fs::write(dir.path().join("cgroup.controllers"), "cpu\n").expect("a file");
        let cgroups = cgroups.below("/work/tests").expect("made");
        let cgroup = cgroups.create("cg").expect("a cgroup");
        assert_eq!((cgroup.name(), cgroup.path()), ("cg", dir.path().join("work/tests/cg").as_path()));
        cgroups.enable("cpu", "cg").expect("offered");
        for folder in ["", "work", "work/tests"] {
            let file = dir.path().join(folder).join("cgroup.subtree_control");
            assert_eq!(fs::read_to_string(file).expect("the file"), "+cpu", "{folder}");
        }
        assert!(matches!(cgroups.below("../out"), Err(CgroupError::Name { .. })));
    }

    /// Somebody read `Operation not supported`, and no more.
    #[test]
    fn a_cgroup_that_may_not_have_processes_says_which_may() {
        let (_dir, cgroups) = hierarchy();
        let cgroup = cgroups.create("outer").expect("a cgroup");
        let refused = |errno: i32| CgroupError::Io {
            what: "write `7` to".to_owned(),
            path: cgroup.path().join("cgroup.procs"),
            source: io::Error::from_raw_os_error(errno),
        };
        for errno in [libc::EBUSY, libc::EOPNOTSUPP] {
            let text = cgroup.told(refused(errno)).to_string();
            assert!(text.contains("`outer`") && text.contains("`.workers(0)`"), "{text}");
        }
        assert!(matches!(cgroup.told(refused(libc::ESRCH)), CgroupError::Io { .. }));
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
