//! What the host sends: the programs to run, their files, and when each may be started.

use std::collections::VecDeque;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use guest_init::message::{
    ArchivedSource, ArchivedToGuest, MemoryAnswer, SHELL, SchedulerJob, ShellInput, TestJob,
};
use rkyv::api::high::HighDeserializer;
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::kernel::Kmsg;
use crate::link::Link;
use crate::reserve::{GivenPages, Reserve};
use crate::{Failure, history, system};

/// How often the ring is looked at. The template is saved in this state: nothing may depend on a moment in it.
const PERIOD: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Wait for the begin of the job: the time.
pub fn await_job(link: &mut Link, kmsg: &mut Kmsg, reserve: Option<Reserve>) -> Result<Delivery, Failure> {
    loop {
        if let Some(archive) = link.receive() {
            let archive = archive.map_err(|loss| format!("receiving the job: {loss}"))?;
            let mut delivery = Delivery { reserve, ..Delivery::default() };
            delivery.take(archive)?;
            return match delivery.has_clock || delivery.stop {
                true => Ok(delivery),
                false => Err("the host sent other things before it said what time it is".into()),
            };
        }
        let log = poll(&mut [PollFd::new(kmsg, PollFlags::IN)], Some(&PERIOD));
        if log.is_ok_and(|ready| ready > 0) {
            kmsg.relay(link);
        }
    }
}

/// How much of a job has arrived.
#[derive(Default)]
pub struct Delivery {
    files: Unpacker,
    reserve: Option<Reserve>,
    placing: Option<Placing>,
    /// A number of the host's choice, which memory holds nowhere by chance.
    stamp: u64,
    /// Bytes that the host has placed.
    pub placed_bytes: u64,
    has_clock: bool,
    /// The scheduler, which may be started when `has_scheduler`.
    pub scheduler: Option<SchedulerJob>,
    /// The files of the scheduler are there.
    pub has_scheduler: bool,
    /// The test, which may be started when `has_test`.
    pub test: Option<TestJob>,
    /// The files of the test are there: all is there.
    pub has_test: bool,
    /// The host wants the run to end.
    pub stop: bool,
    /// Captures that the host has taken, by the numbers of their samples, until somebody takes them from here.
    pub captured: Vec<u32>,
    /// What came of the test's orders on kernel memory, likewise.
    pub memory: Vec<MemoryAnswer>,
    /// Input for a shell, likewise.
    pub shell: VecDeque<ShellInput>,
}

impl Delivery {
    /// Take in one message.
    pub fn take(&mut self, archive: &AlignedVec) -> Result<(), Failure> {
        let message = rkyv::access::<ArchivedToGuest, rancor::Error>(archive)
            .map_err(|error| format!("reading a message of the host: {error}"))?;
        match message {
            ArchivedToGuest::File { path, mode, first, bytes } => {
                self.files.piece(path, mode.to_native(), *first, bytes)?;
            }
            ArchivedToGuest::Place { path, mode, bytes } => {
                let (mode, bytes) = (mode.to_native(), bytes.to_native());
                self.placing = Some(Placing { path: path.to_string(), mode, bytes, is_told: false });
            }
            ArchivedToGuest::Placed => {
                let Some((placing, reserve)) = self.placing.take().zip(self.reserve.take()) else {
                    return Err("the host has placed what it did not announce".into());
                };
                let path = Path::new(&placing.path);
                make_room(path).map_err(|error| format!("making room for {}: {error}", placing.path))?;
                self.placed_bytes += reserve.name(path, placing.mode, placing.bytes)?;
            }
            ArchivedToGuest::Link { path, target } => self.files.link(path, target)?,
            ArchivedToGuest::Start(source) => {
                // A program cannot be run while it is open for writing.
                self.files = Unpacker::default();
                let (known, ready) = match source {
                    ArchivedSource::Scheduler => (self.scheduler.is_some(), &mut self.has_scheduler),
                    _ => (self.test.is_some(), &mut self.has_test),
                };
                if !known {
                    return Err("the host wants to start what it has not named".into());
                }
                *ready = true;
                if self.has_test
                    && let Some(reserve) = self.reserve.take()
                {
                    reserve.free();
                }
            }
            ArchivedToGuest::Clock { wall_clock_ns, seed } => {
                system::set_wall_clock(wall_clock_ns.to_native())?;
                system::seed_randomness(seed)?;
                self.stamp = seed.first_chunk().copied().map_or(self.stamp, u64::from_le_bytes);
                self.has_clock = true;
            }
            ArchivedToGuest::Scheduler(job) => once(&mut self.scheduler, deserialized(job)?)?,
            ArchivedToGuest::Test(job) => {
                if job.without_history {
                    history::end()?;
                }
                once(&mut self.test, deserialized(job)?)?;
            }
            ArchivedToGuest::Stop => self.stop = true,
            ArchivedToGuest::Captured { sample } => self.captured.push(sample.to_native()),
            ArchivedToGuest::Shell(input) => self.shell.push_back(deserialized(input)?),
            ArchivedToGuest::Memory(answer) => self.memory.push(deserialized(answer)?),
        }
        Ok(())
    }
}

impl Delivery {
    /// Whether the test binary runs a shell, for a person who waits for each answer.
    pub fn has_shell(&self) -> bool {
        let is_shell =
            |variable: &String| variable.strip_prefix(SHELL).is_some_and(|rest| rest.starts_with('='));
        self.test.as_ref().is_some_and(|test| test.program.env.iter().any(is_shell))
    }

    /// Where the host may write, if it has asked and was not told.
    pub fn tell_where(&mut self) -> Option<GivenPages> {
        let stamp = self.stamp;
        let placing = self.placing.as_mut().filter(|placing| !placing.is_told)?;
        placing.is_told = true;
        let bytes = placing.bytes;
        let place = self.reserve.as_mut().and_then(|reserve| reserve.place(bytes, stamp));
        Some(place.unwrap_or(GivenPages { stamp, frames: Vec::new() }))
    }
}

/// A file that the host wants to place.
struct Placing {
    path: String,
    mode: u32,
    bytes: u64,
    is_told: bool,
}

/// The value of a part of the job.
fn deserialized<A, T>(archived: &A) -> Result<T, Failure>
where
    A: rkyv::Deserialize<T, HighDeserializer<rancor::Error>>,
{
    rkyv::deserialize::<T, rancor::Error>(archived).map_err(|error| format!("reading the job: {error}"))
}

fn once<T>(place: &mut Option<T>, job: T) -> Result<(), Failure> {
    match place.replace(job) {
        None => Ok(()),
        Some(_) => Err("the host sent a second job".into()),
    }
}

/// Writes the files of a job, the pieces of one after the other.
#[derive(Default)]
pub struct Unpacker {
    open: Option<(String, File)>,
}

impl Unpacker {
    /// Write one piece of a file.
    pub fn piece(&mut self, path: &str, mode: u32, first: bool, bytes: &[u8]) -> Result<(), Failure> {
        let result = match &mut self.open {
            Some((open, file)) if open == path && !first => file.write_all(bytes),
            _ => begin(path, mode, first).and_then(|mut file| {
                file.write_all(bytes)?;
                self.open = Some((path.to_owned(), file));
                Ok(())
            }),
        };
        result.map_err(|error| {
            format!("unpacking {path} ({} bytes more): {error}; has the guest enough memory?", bytes.len())
        })
    }

    /// Make a symbolic link, in place of what is there.
    pub fn link(&mut self, path: &str, target: &str) -> Result<(), Failure> {
        let make = || {
            make_room(Path::new(path))?;
            symlink(target, path)
        };
        make().map_err(|error| format!("linking {path} to {target}: {error}"))
    }
}

fn begin(path: &str, mode: u32, first: bool) -> std::io::Result<File> {
    if !first {
        return File::options().append(true).open(path);
    }
    make_room(Path::new(path))?;
    let file = File::create(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// Make the folder of `path` and remove what stands at `path`.
fn make_room(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up_and_a_first_piece_begins_anew() {
        let folder = std::env::temp_dir().join(format!("guest-init-files-{}", std::process::id()));
        let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
        let mut files = Unpacker::default();
        files.piece(&path("a/b"), 0o755, true, b"one").expect("written");
        files.piece(&path("c"), 0o600, true, b"other").expect("written");
        files.piece(&path("a/b"), 0o755, false, b" two").expect("appended");
        files.link(&path("a/link"), "b").expect("linked");
        assert_eq!(fs::read(path("a/link")).expect("readable"), b"one two");
        assert_eq!(fs::metadata(path("a/b")).expect("there").permissions().mode() & 0o777, 0o755);
        files.piece(&path("a/link"), 0o644, true, b"new").expect("replaced");
        assert_eq!(fs::read(path("a/b")).expect("readable"), b"one two");
        assert_eq!(fs::read(path("a/link")).expect("readable"), b"new");
        let refused = files.piece(&path("c/d"), 0o644, true, b"").expect_err("c is a file");
        assert!(refused.contains("c/d"), "{refused}");
        fs::remove_dir_all(folder).expect("removed");
    }
}
