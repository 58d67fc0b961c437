//! What the host sends: first the job, then its files, and when what of it may be started.

use guest_init::message::{ArchivedSource, ArchivedToGuest, Job, ToGuest};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Failure;
use crate::files::Unpacker;
use crate::kmsg::Kmsg;
use crate::link::Link;

/// How often the ring is looked at. The template is saved in this state: nothing may depend on a moment in it.
const PERIOD: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Wait for the job; `None` when the host wants no more of this guest.
pub fn await_job(link: &mut Link, kmsg: &mut Kmsg) -> Result<Option<Job>, Failure> {
    loop {
        if let Some(archive) = link.receive() {
            let archive = archive.map_err(|loss| format!("receiving the job: {loss}"))?;
            let message = rkyv::from_bytes::<ToGuest, rancor::Error>(archive)
                .map_err(|error| format!("reading the job: {error}"))?;
            return match message {
                ToGuest::Job(job) => Ok(Some(job)),
                ToGuest::Stop => Ok(None),
                _ => Err("the host sent files before it said what to run".into()),
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
    /// The scheduler may be started.
    pub scheduler: bool,
    /// The test binary may be started: all is there.
    pub test: bool,
    /// The host wants the run to end.
    pub stop: bool,
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
            ArchivedToGuest::Link { path, target } => self.files.link(path, target)?,
            ArchivedToGuest::Start(source) => {
                // A program cannot be run while it is open for writing.
                self.files = Unpacker::default();
                match source {
                    ArchivedSource::Scheduler => self.scheduler = true,
                    _ => self.test = true,
                }
            }
            ArchivedToGuest::Stop => self.stop = true,
            ArchivedToGuest::Job(_) => return Err("the host sent a second job".into()),
        }
        Ok(())
    }
}
