//! A job that is ready to be sent, and why one cannot be made or sent.

use ktstr_replay::units::nanos;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use guest_init::layout::ChannelMemory;
use guest_init::message::{SchedulerJob, Source, TestJob, ToGuest};
use rkyv::rancor;
use xxhash_rust::xxh3::Xxh3;

use crate::channel::{HostChannel, SendError};

/// Bytes of a file in one frame.
const PIECE_BYTES: usize = 256 << 10;
/// A smaller file is sent as quickly as it is placed.
const WORTH_PLACING_BYTES: u64 = 1 << 20;
/// Bytes of the seed: as much as the kernel's generator takes in at once.
const SEED_BYTES: usize = 32;

/// Something to be unpacked in the guest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JobFile {
    /// A file.
    File {
        /// Permission bits.
        mode: u32,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// A symbolic link to a path.
    Link(String),
}

/// Files and what to run of them. Can be delivered to any number of guests.
#[derive(Debug)]
pub struct PackedJob {
    /// What has to be there before the scheduler is started.
    pub(super) early: Vec<(String, JobFile)>,
    /// The test binary's libraries, where nothing else needs them.
    pub(super) libraries: Vec<(String, JobFile)>,
    /// What comes with the test binary, itself included.
    pub(super) binary: Vec<(String, JobFile)>,
    pub(super) scheduler: Option<SchedulerJob>,
    /// XXH3-128 of its program as it is on the host.
    pub(super) scheduler_xxh3: Option<u128>,
    pub(super) test: TestJob,
}

impl PackedJob {
    /// Have the guest's kernel record no history.
    pub(crate) fn without_history(&mut self) {
        self.test.without_history = true;
    }
}

/// What differs between two runs of a job: the time and the randomness that the guest starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockAndSeed {
    /// Wall clock, ns since the epoch.
    pub wall_clock_ns: u64,
    /// Entropy for the guest's kernel.
    pub seed: Vec<u8>,
}

impl ClockAndSeed {
    /// The host's time, and bytes of its generator.
    ///
    /// # Errors
    /// When `/dev/urandom` cannot be read.
    pub fn now() -> io::Result<Self> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let mut seed = vec![0; SEED_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut seed)?;
        Ok(Self { wall_clock_ns: nanos(since_epoch), seed })
    }
}

/// What delivering a job came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Files and links.
    pub files: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// From the first frame to the last one that was written; the guest may still be unpacking.
    pub elapsed: Duration,
}

impl PackedJob {
    /// The scheduler that init is told to run, if any.
    pub fn scheduler(&self) -> Option<&SchedulerJob> {
        self.scheduler.as_ref()
    }

    /// XXH3-128 (hex) of the scheduler's program as it is on the host, debug sections included.
    pub fn scheduler_xxh3(&self) -> Option<String> {
        self.scheduler_xxh3.map(|hash| format!("{hash:032x}"))
    }

    /// XXH3-128 (hex) of all that a guest has of this job when its scheduler is enabled and nothing of the test but its
    /// libraries has been sent: the scheduler's program, arguments, environment and time limits, and every file by path,
    /// permissions and content. `None` without a scheduler.
    ///
    /// # Errors
    /// [`JobError::Archive`], for a job that could not be sent either.
    pub fn scheduler_digest(&self) -> Result<Option<String>, JobError> {
        let Some(job) = &self.scheduler else { return Ok(None) };
        let mut hash = Xxh3::new();
        // Each part with its length, so that no two sequences of parts are the same bytes.
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let archive = rkyv::to_bytes::<rancor::Error>(job)
            .map_err(|error| JobError::Archive { why: error.to_string() })?;
        part(&archive);
        for (path, entry) in self.early.iter().chain(&self.libraries) {
            part(path.as_bytes());
            match entry {
                JobFile::File { mode, bytes } => {
                    part(&mode.to_le_bytes());
                    part(bytes);
                }
                JobFile::Link(target) => {
                    part(b"link");
                    part(target.as_bytes());
                }
            }
        }
        Ok(Some(format!("{:032x}", hash.digest128())))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        bytes_of(&self.early) + bytes_of(&self.libraries) + bytes_of(&self.binary)
    }

    /// All files that are unpacked, in the order in which they are sent: their paths and contents.
    #[cfg(test)]
    pub(super) fn entries(&self) -> impl Iterator<Item = &(String, JobFile)> {
        self.early.iter().chain(&self.libraries).chain(&self.binary)
    }

    /// Send these parts of it, after the time. The guest must be `Ready` for the first part, and have it for the second.
    /// The scheduler is started when its files are there, and enabled while those of the test binary are still on
    /// their way.
    ///
    /// # Errors
    /// [`JobError::Send`] when the guest does not take all of it. If it gave up, what it sent says why.
    pub fn deliver(
        &self,
        parts: JobParts,
        way: &mut dyn Way,
        clock_and_seed: ClockAndSeed,
    ) -> Result<Delivered, JobError> {
        let begin = Instant::now();
        let mut delivered = Delivered::default();
        let ClockAndSeed { wall_clock_ns, seed } = clock_and_seed;
        order(way, ToGuest::Clock { wall_clock_ns, seed })?;
        if parts != JobParts::Test {
            if let Some(scheduler) = &self.scheduler {
                order(way, ToGuest::Scheduler(scheduler.clone()))?;
            }
            delivered.send(way, &self.early, None)?;
            // Most test binaries have the same ones, so that they can be in a template. They are there before the order to
            // start: what comes after it is not in the template.
            if parts == JobParts::Scheduler {
                delivered.send(way, &self.libraries, None)?;
            }
            if self.scheduler.is_some() {
                order(way, ToGuest::Start(Source::Scheduler))?;
            }
        }
        if parts != JobParts::Scheduler {
            order(way, ToGuest::Test(self.test.clone()))?;
            if parts == JobParts::All {
                delivered.send(way, &self.libraries, None)?;
            }
            delivered.send(way, &self.binary, largest(&self.binary))?;
            order(way, ToGuest::Start(Source::Test))?;
        }
        Ok(Delivered { elapsed: begin.elapsed(), ..delivered })
    }
}

/// Which parts of a job are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobParts {
    /// Both.
    All,
    /// The scheduler, every file that it may read, and the libraries of the test binary.
    Scheduler,
    /// The test binary.
    Test,
}

/// How the parts of a job get into a guest.
pub trait Way {
    /// Send one message, waiting for room.
    ///
    /// # Errors
    /// [`SendError`]; nothing of the message has then been sent.
    fn send(&mut self, message: &ToGuest) -> Result<(), SendError>;

    /// Write the begin of a file into guest memory; returns how many bytes of it, 0 where that cannot be done.
    ///
    /// # Errors
    /// As [`send`](Way::send).
    fn place(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<usize, SendError>;
}

/// The channel alone.
pub struct ByChannel<'c, H> {
    /// It.
    pub channel: &'c mut HostChannel<H>,
    /// Until when the guest must have taken all.
    pub deadline: Instant,
}

impl<H: ChannelMemory> Way for ByChannel<'_, H> {
    fn send(&mut self, message: &ToGuest) -> Result<(), SendError> {
        self.channel.send(message, self.deadline)
    }

    fn place(&mut self, _path: &str, _mode: u32, _bytes: &[u8]) -> Result<usize, SendError> {
        Ok(0)
    }
}

fn order(way: &mut dyn Way, message: ToGuest) -> Result<(), JobError> {
    way.send(&message).map_err(|source| JobError::Send { what: "what to run".into(), source })
}

/// Bytes of these files.
fn bytes_of(entries: &[(String, JobFile)]) -> u64 {
    entries.iter().map(|(_, entry)| bytes_of_entry(entry)).sum()
}

fn bytes_of_entry(entry: &JobFile) -> u64 {
    match entry {
        JobFile::File { bytes, .. } => bytes.len() as u64,
        JobFile::Link(_) => 0,
    }
}

/// The path of the largest of these files, if it is worth placing.
fn largest(entries: &[(String, JobFile)]) -> Option<&str> {
    let found = entries.iter().max_by_key(|(_, entry)| bytes_of_entry(entry));
    found.filter(|(_, entry)| bytes_of_entry(entry) >= WORTH_PLACING_BYTES).map(|(path, _)| path.as_str())
}

impl Delivered {
    /// Send these files too, the one at `place` by writing it into guest memory, as far as that can be done.
    fn send(
        &mut self,
        way: &mut dyn Way,
        entries: &[(String, JobFile)],
        place: Option<&str>,
    ) -> Result<(), JobError> {
        for (path, entry) in entries {
            let is_placed = place == Some(path.as_str());
            send_entry(way, path, entry, is_placed)
                .map_err(|source| JobError::Send { what: path.clone(), source })?;
        }
        self.files += entries.len();
        self.bytes += bytes_of(entries);
        Ok(())
    }
}

fn send_entry(way: &mut dyn Way, path: &str, entry: &JobFile, place: bool) -> Result<(), SendError> {
    match entry {
        JobFile::Link(target) => way.send(&ToGuest::Link { path: path.to_owned(), target: target.clone() }),
        JobFile::File { mode, bytes } => {
            let placed = if place { way.place(path, *mode, bytes)? } else { 0 };
            let rest = bytes.get(placed..).unwrap_or_default();
            // An empty file is one empty piece.
            let pieces = rest.chunks(PIECE_BYTES).chain(bytes.is_empty().then_some(&[][..]));
            for (i, piece) in pieces.enumerate() {
                let message = ToGuest::File {
                    path: path.to_owned(),
                    mode: *mode,
                    first: i == 0 && placed == 0,
                    bytes: piece.to_vec(),
                };
                way.send(&message)?;
            }
            Ok(())
        }
    }
}

/// Why a job cannot be packed or delivered.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A file that the job names cannot be read.
    #[error("reading {path}, which the test needs in its guest")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program or library is a damaged ELF.
    #[error("reading {path} as an ELF")]
    Elf {
        /// Which.
        path: PathBuf,
        /// Why.
        source: object::Error,
    },
    /// A program is for another kind of machine than the guest is.
    #[error("{path} is not a 64-bit x86 program; the guest runs only those")]
    Machine {
        /// Which.
        path: PathBuf,
    },
    /// A program names a shared library that this host does not have.
    #[error(
        "the shared library {name}, needed by {needed_by}, was not found in {}; \
         install it, or name its folder in LD_LIBRARY_PATH",
        list(searched)
    )]
    MissingLibrary {
        /// The library's name.
        name: String,
        /// The program or library that names it.
        needed_by: PathBuf,
        /// Folders (and the loader's cache) that were searched.
        searched: Vec<PathBuf>,
    },
    /// A path cannot be told to the guest.
    #[error("the path {path:?} is not UTF-8; move the file")]
    NotUtf8 {
        /// Which.
        path: PathBuf,
    },
    /// A payload can not be started in a guest.
    #[error("{path} cannot be run as a payload: {why}")]
    Payload {
        /// Which.
        path: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// Something that is to be included cannot be.
    #[error("{path} cannot be included in the guest: {why}")]
    Include {
        /// Which.
        path: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// Two different files are to be at one path of the guest.
    #[error(
        "{one} and {other} are both to be {guest} in the guest, and differ: give one of them another path, as in \"PATH:/PATH/IN/GUEST\""
    )]
    Taken {
        /// The path in the guest.
        guest: String,
        /// What is there.
        one: String,
        /// What is to be there, too.
        other: String,
    },
    /// What is to be run could not be archived.
    #[error("archiving what the guest is to run: {why}")]
    Archive {
        /// What rkyv said.
        why: String,
    },
    /// No test program was named.
    #[error("the job has no test program")]
    NoTest,
    /// The guest did not take it.
    #[error("sending the job to the guest ({what})")]
    Send {
        /// What was being sent.
        what: String,
        /// Why.
        source: SendError,
    },
}

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "no folder at all".into();
    }
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
