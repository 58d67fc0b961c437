//! The file systems of a guest.

use std::fs;

use rustix::mount::{MountFlags, mount};

use crate::Failure;

/// Type and place of one file system; the source is the type.
type Mount = (&'static str, &'static str);

/// What the channel needs: the command line and `/dev/mem`.
const FOR_CHANNEL: [Mount; 2] = [("proc", "/proc"), ("devtmpfs", "/dev")];

/// The rest, parents before children.
const REST: [Mount; 8] = [
    ("sysfs", "/sys"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("bpf", "/sys/fs/bpf"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];

/// Mount `/proc` and `/dev`.
pub fn mount_for_channel() -> Result<(), Failure> {
    mount_all(&FOR_CHANNEL)
}

/// Mount everything else.
pub fn mount_rest() -> Result<(), Failure> {
    mount_all(&REST)
}

fn mount_all(mounts: &[Mount]) -> Result<(), Failure> {
    for (kind, place) in mounts {
        // sysfs has its mount points already and lets no one make others.
        if !fs::exists(place).unwrap_or(false) {
            fs::create_dir_all(place).map_err(|error| format!("making the folder {place}: {error}"))?;
        }
        mount(*kind, *place, *kind, MountFlags::empty(), None)
            .map_err(|error| format!("mounting {kind} at {place}: {error}; is it built into this kernel?"))?;
    }
    Ok(())
}
