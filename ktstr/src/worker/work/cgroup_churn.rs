//! Work that moves between cgroups.

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, unlinkat};
use rustix::io::{self, Errno};
use rustix::thread::gettid;

use super::super::member::burn;
use super::{Ended, Never, RangeError, Work, Worker, range, turn};

/// What the names of its cgroups begin with; the worker's thread id and a number follow.
pub const CHURN_PREFIX: &str = "ktstr_churn_";
/// A longer path would have to be copied to allocated memory for the system call.
const PATH_BYTES: usize = 250;

/// Makes two cgroups below its own and moves from one to the other, over and over. Stresses the accounts that a scheduler keeps by
/// cgroup (`cgroup_move`, `cgroup_prep_move`).
///
/// A unit is a move after which `/proc/self/cgroup` tells the new one. It needs cgroup v2 and the right to make cgroups there, and a
/// process: threads of one process cannot be in different cgroups. At the end it is back and both are removed, also when it is
/// killed. Its own cgroup must not have controllers enabled for its children (`cgroup.subtree_control`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupChurn {
    /// Rounds of arithmetic in each cgroup, 1 to 10000000. Default: 4096.
    pub rounds: u32,
}

impl Default for CgroupChurn {
    fn default() -> Self {
        Self { rounds: 4096 }
    }
}

impl Work for CgroupChurn {
    fn check(&self) -> Result<(), RangeError> {
        let mount = cgroup2_mount();
        let what = "the cgroup hierarchy of CgroupChurn";
        range::good(mount.is_some(), what, || "absent".to_owned(), "cgroup v2, mounted somewhere")?;
        range::rounds("CgroupChurn.rounds", self.rounds)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let mount = worker.cgroup_mount.ok_or(Errno::NODEV)?;
        let mut path = [0; PATH_BYTES];
        let path = own_path(&mut path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mount = open(mount, flags, Mode::empty())?;
        let home = openat(&mount, if path.is_empty() { b"." } else { path }, flags, Mode::empty())?;
        let back = procs(&home, b"cgroup.procs")?;
        let ended = self.churn(worker, &home);
        io::write(&back, b"0")?;
        for number in 0..2 {
            let mut room = [0; 64];
            // The second one is not there when the first could not be made.
            let _ = unlinkat(&home, name(&mut room, number, "")?, AtFlags::REMOVEDIR);
        }
        ended
    }
}

impl CgroupChurn {
    fn churn(&self, worker: &mut Worker<'_>, home: &OwnedFd) -> Result<Never, Ended> {
        let child = |number| {
            let mut room = [0; 64];
            mkdirat(home, name(&mut room, number, "")?, Mode::from_raw_mode(0o755))?;
            procs(home, name(&mut room, number, "/cgroup.procs")?)
        };
        let children = [child(0)?, child(1)?];
        loop {
            for (number, procs) in (0..).zip(&children) {
                io::write(procs, b"0")?;
                let (mut path, mut room) = ([0; PATH_BYTES], [0; 64]);
                let is_there = own_path(&mut path)?.ends_with(name(&mut room, number, "")?);
                burn(self.rounds);
                turn(worker, u64::from(is_there))?;
            }
        }
    }
}

fn procs(folder: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    openat(folder, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
}

/// The name of one of this worker's cgroups, with something behind it.
fn name<'a>(room: &'a mut [u8; 64], number: u32, behind: &str) -> io::Result<&'a [u8]> {
    let mut rest = &mut room[..];
    write!(rest, "{CHURN_PREFIX}{}_{number}{behind}", gettid()).map_err(|_| Errno::NAMETOOLONG)?;
    let left = rest.len();
    room.get(..64 - left).ok_or(Errno::NAMETOOLONG)
}

/// The cgroup that the worker is in, without the slash at its begin.
fn own_path(room: &mut [u8; PATH_BYTES]) -> io::Result<&[u8]> {
    let file = open(c"/proc/thread-self/cgroup", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = [0_u8; 4096];
    let length = io::read(&file, &mut text)?;
    let mut lines = text.get(..length).unwrap_or_default().split(|byte| *byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::/")).ok_or(Errno::NODEV)?;
    let room = room.get_mut(..path.len()).ok_or(Errno::NAMETOOLONG)?;
    room.copy_from_slice(path);
    Ok(room)
}

/// Where cgroup v2 is mounted. Source: `proc_pid_mounts(5)`.
pub fn cgroup2_mount() -> Option<CString> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    CString::new(mount.split(' ').nth(1)?).ok()
}
