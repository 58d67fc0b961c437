//! The processes below a child, and the files that they hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// A process, told from a later one with the same number by when it started.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    pid: u32,
    started_ticks: u64,
    name: String,
}

/// Processes, and the files below `/dev/shm` and temporary folders that they have open or mapped.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    processes: BTreeSet<Process>,
    files: BTreeSet<PathBuf>,
}

/// All processes below `pid`, itself included, as they are now.
pub fn descendants(pid: u32) -> Tree {
    let all: Vec<(u32, Process)> = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?))
        .collect();
    let mut inside = BTreeSet::from([pid]);
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|(parent, process)| inside.contains(parent) && !inside.contains(&process.pid))
            .map(|(_, process)| process.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        inside.extend(more);
    }
    let processes: BTreeSet<Process> =
        all.into_iter().map(|(_, process)| process).filter(|process| inside.contains(&process.pid)).collect();
    let files = processes.iter().flat_map(|process| held_files(process.pid)).collect();
    Tree { processes, files }
}

impl Tree {
    /// Adds what another look found.
    pub fn merge(&mut self, other: Self) {
        self.processes.extend(other.processes);
        self.files.extend(other.files);
    }

    /// Whether a process of that program is among them.
    pub fn has_program(&self, part_of_name: &str) -> bool {
        self.processes.iter().any(|process| process.name.contains(part_of_name))
    }

    /// The processes of that program that are among them, by pid.
    pub fn pids_of(&self, part_of_name: &str) -> Vec<u32> {
        let of_it = self.processes.iter().filter(|process| process.name.contains(part_of_name));
        of_it.map(|process| process.pid).collect()
    }

    /// Files that vanish with a machine: memory of the guest and sockets.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// Kills those of the processes that still live.
    pub fn kill(&self) {
        for process in &self.processes {
            let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| lives(process)) {
                // It may end by itself meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// What of it is still there: processes that live (zombies do not), files that exist.
    pub fn left(&self) -> Vec<String> {
        let processes = self
            .processes
            .iter()
            .filter(|process| lives(process))
            .map(|p| format!("process {} ({})", p.pid, p.name));
        let files = self.files.iter().filter(|path| path.exists()).map(|path| path.display().to_string());
        processes.chain(files).collect()
    }
}

/// Whether it lives still, and is not another one of the same number.
fn lives(of: &Process) -> bool {
    process(of.pid).is_some_and(|(_, now)| now == *of)
}

/// A process that is not a zombie, with its parent's pid. See proc_pid_stat(5).
fn process(pid: u32) -> Option<(u32, Process)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let state = *fields.first()?;
    if state == "Z" || state == "X" {
        return None;
    }
    // The command line tells a program that runs through a dynamic loader from the loader.
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let name = String::from_utf8_lossy(&command_line).replace('\0', " ");
    Some((fields.get(1)?.parse().ok()?, Process { pid, started_ticks: fields.get(19)?.parse().ok()?, name }))
}

/// Files of a process that nobody but a machine of ours has: what it has open or mapped below `/dev/shm`, and bound
/// sockets, which the kernel lists by inode.
fn held_files(pid: u32) -> Vec<PathBuf> {
    let mut held = Vec::new();
    let mut inodes = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let Some(text) = target.to_str() else { continue };
        if let Some(inode) = text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            inodes.push(inode.to_owned());
        } else if text.starts_with("/dev/shm/") {
            held.push(target);
        }
    }
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    held.extend(maps.lines().filter_map(|line| line.find("/dev/shm/").map(|at| PathBuf::from(&line[at..]))));
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    held.extend(sockets.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let path = fields.get(7)?;
        let ours = inodes.iter().any(|inode| fields.get(6) == Some(&inode.as_str()));
        (ours && path.starts_with('/')).then(|| PathBuf::from(path))
    }));
    held
}
