//! A job that is ready to be sent, and why one cannot be made or sent.

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
    /// What only the test binary needs.
    pub(super) late: Vec<(String, JobFile)>,
    pub(super) scheduler: Option<SchedulerJob>,
    pub(super) test: TestJob,
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
        Ok(Self { wall_clock_ns: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX), seed })
    }
}

/// What delivering a job came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// XXH3-128 (hex) of all that a guest has of this job when its scheduler is enabled and nothing of the test has been
    /// sent: the scheduler's program, arguments, environment and time limits, and every file by path, permissions and
    /// content. `None` without a scheduler.
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
        for (path, entry) in &self.early {
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
        bytes_of(&self.early) + bytes_of(&self.late)
    }

    /// All that is unpacked, in the order in which it is sent: paths and what is there.
    #[cfg(test)]
    pub(super) fn entries(&self) -> impl Iterator<Item = &(String, JobFile)> {
        self.early.iter().chain(&self.late)
    }

    /// Send these parts of it, after the time. The guest must be `Ready` for the first part, and have it for the second.
    /// The scheduler is started when its files are there, and enabled while those of the test binary are still on
    /// their way. Calls `idle` again and again while the guest has no room for more.
    ///
    /// # Errors
    /// [`JobError::Send`] when the guest does not take all of it until `deadline`. If it gave up, what it sent
    /// says why.
    pub fn deliver<H: ChannelMemory>(
        &self,
        parts: JobParts,
        channel: &mut HostChannel<H>,
        clock_and_seed: ClockAndSeed,
        deadline: Instant,
        idle: &mut dyn FnMut(),
    ) -> Result<Delivered, JobError> {
        let begin = Instant::now();
        let ClockAndSeed { wall_clock_ns, seed } = clock_and_seed;
        let send: &mut Send<'_> = &mut |message| channel.send_while(message, deadline, idle);
        order(send, ToGuest::Clock { wall_clock_ns, seed })?;
        let (mut files, mut bytes) = (0, 0);
        if parts != JobParts::Test {
            if let Some(scheduler) = &self.scheduler {
                order(send, ToGuest::Scheduler(scheduler.clone()))?;
            }
            send_entries(send, &self.early)?;
            if self.scheduler.is_some() {
                order(send, ToGuest::Start(Source::Scheduler))?;
            }
            files += self.early.len();
            bytes += bytes_of(&self.early);
        }
        if parts != JobParts::Scheduler {
            order(send, ToGuest::Test(self.test.clone()))?;
            send_entries(send, &self.late)?;
            order(send, ToGuest::Start(Source::Test))?;
            files += self.late.len();
            bytes += bytes_of(&self.late);
        }
        Ok(Delivered { files, bytes, elapsed: begin.elapsed() })
    }
}

/// Which parts of a job are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobParts {
    /// Both.
    All,
    /// The scheduler, and every file that it may read.
    Scheduler,
    /// The test, with the files that only its binary needs.
    Test,
}

/// Sends one message, waiting for room.
type Send<'a> = dyn FnMut(&ToGuest) -> Result<(), SendError> + 'a;

fn order(send: &mut Send<'_>, message: ToGuest) -> Result<(), JobError> {
    send(&message).map_err(|source| JobError::Send { what: "what to run".into(), source })
}

/// Bytes of these files.
fn bytes_of(entries: &[(String, JobFile)]) -> u64 {
    let length = |entry: &JobFile| match entry {
        JobFile::File { bytes, .. } => bytes.len() as u64,
        JobFile::Link(_) => 0,
    };
    entries.iter().map(|(_, entry)| length(entry)).sum()
}

fn send_entries(send: &mut Send<'_>, entries: &[(String, JobFile)]) -> Result<(), JobError> {
    for (path, entry) in entries {
        send_entry(send, path, entry).map_err(|source| JobError::Send { what: path.clone(), source })?;
    }
    Ok(())
}

fn send_entry(send: &mut Send<'_>, path: &str, entry: &JobFile) -> Result<(), SendError> {
    match entry {
        JobFile::Link(target) => send(&ToGuest::Link { path: path.to_owned(), target: target.clone() }),
        JobFile::File { mode, bytes } => {
            // An empty file is one empty piece.
            let pieces = bytes.chunks(PIECE_BYTES).chain(bytes.is_empty().then_some(&[][..]));
            for (i, piece) in pieces.enumerate() {
                let message = ToGuest::File {
                    path: path.to_owned(),
                    mode: *mode,
                    first: i == 0,
                    bytes: piece.to_vec(),
                };
                send(&message)?;
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
