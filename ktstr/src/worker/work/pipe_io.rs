//! Pairs of workers that wake each other through pipes.

use super::{Ended, Links, Meter, Work};

/// See `WorkType::PipeIo`.
pub struct PipeIo;

impl Work for PipeIo {
    const GANG: usize = 2;

    fn run(meter: &mut Meter<'_>, member: usize, links: Option<&Links>) -> Ended {
        let Some(links) = links else {
            return Ended::PeerGone;
        };
        loop {
            // The first member serves, the other returns.
            let trip = match member {
                0 => links.send().and_then(|()| links.receive()),
                _ => links.receive().and_then(|()| links.send()),
            };
            match trip {
                // A peer that was told to end closes its pipes before this worker has seen the flag.
                Err(_) if meter.stopping() => return Ended::Told,
                Err(fault) => return fault.into(),
                Ok(()) => {}
            }
            if !meter.turn(1) {
                return Ended::Told;
            }
        }
    }
}
