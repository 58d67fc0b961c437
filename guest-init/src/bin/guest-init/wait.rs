//! Waiting for the job.

use guest_init::message::{ArchivedToGuest, Job, ToGuest};
use rkyv::rancor;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Failure;
use crate::files::Unpacker;
use crate::kmsg::Kmsg;
use crate::link::Link;

/// How often the ring is looked at. The template is saved in this state: nothing may depend on a moment in it.
const PERIOD: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Unpack files until the job comes; `None` when the host wants no more of this guest.
pub fn for_job(link: &mut Link, kmsg: &mut Kmsg) -> Result<Option<Job>, Failure> {
    let mut files = Unpacker::default();
    loop {
        while let Some(archive) = link.receive() {
            let archive = archive.map_err(|loss| format!("receiving the job: {loss}"))?;
            let message = rkyv::access::<ArchivedToGuest, rancor::Error>(archive)
                .map_err(|error| format!("reading a message of the host: {error}"))?;
            match message {
                ArchivedToGuest::File { path, mode, first, bytes } => {
                    files.piece(path, mode.to_native(), *first, bytes)?;
                }
                ArchivedToGuest::Link { path, target } => files.link(path, target)?,
                ArchivedToGuest::Start(_) | ArchivedToGuest::Stop => {
                    let message = rkyv::deserialize::<ToGuest, rancor::Error>(message)
                        .map_err(|error| format!("reading the job: {error}"))?;
                    files.finish();
                    return Ok(match message {
                        ToGuest::Start(job) => Some(job),
                        _ => None,
                    });
                }
            }
        }
        let log = poll(&mut [PollFd::new(kmsg, PollFlags::IN)], Some(&PERIOD));
        if log.is_ok_and(|ready| ready > 0) {
            kmsg.relay(link);
        }
    }
}
