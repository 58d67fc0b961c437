//! The kinds of work, one file each; the list is the table at the end.

mod bursty;
mod pipe_io;
mod spin_wait;
mod yield_heavy;

use std::fmt;
use std::hint::black_box;

use rustix::io::Errno;

use super::links::{LinkFault, Links};
use super::meter::Meter;

/// How a worker's loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was told to.
    Told,
    /// A worker that it works with has gone.
    PeerGone,
    /// A system call failed.
    Failed(Errno),
}

/// A kind of work.
pub(super) trait Work {
    /// Workers that work together; a group has a multiple of so many. Above 1 they get a ring of pipes.
    const GANG: usize = 1;

    /// Do turns until [`Meter::turn`] says no.
    ///
    /// Runs in a forked child: it must not allocate, take a lock, print or panic. `member` is the worker's number
    /// in its gang; `links` are its ends of the gang's pipes, `None` in a gang of one.
    fn run(meter: &mut Meter<'_>, member: usize, links: Option<&Links>) -> Ended;
}

macro_rules! work_types {
    ($($(#[$meta:meta])+ $name:ident in $module:ident;)+) => {
        /// What a worker does until it is told to end.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum WorkType {
            $($(#[$meta])+ $name,)+
        }

        impl WorkType {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name, as in reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// Workers that work together; a group has a multiple of so many.
            pub const fn gang(self) -> usize {
                match self {
                    $(Self::$name => <$module::$name as Work>::GANG,)+
                }
            }

            /// See [`Work::run`].
            pub(super) fn run(self, meter: &mut Meter<'_>, member: usize, links: Option<&Links>) -> Ended {
                match self {
                    $(Self::$name => <$module::$name as Work>::run(meter, member, links),)+
                }
            }
        }
    };
}

work_types! {
    /// Computes without a break. A unit is 1024 rounds of arithmetic.
    #[default]
    SpinWait in spin_wait;
    /// Gives up its CPU after every unit. A unit is 64 rounds of arithmetic.
    YieldHeavy in yield_heavy;
    /// Computes for 5 ms, sleeps for 10 ms. A unit is 1024 rounds of arithmetic.
    Bursty in bursty;
    /// Pairs that pass a byte to and fro through two pipes. A unit is a round trip.
    PipeIo in pipe_io;
}

impl fmt::Display for WorkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<LinkFault> for Ended {
    fn from(fault: LinkFault) -> Self {
        match fault {
            LinkFault::Closed => Self::PeerGone,
            LinkFault::Errno(errno) => Self::Failed(errno),
        }
    }
}

/// Burn CPU for so many rounds of arithmetic (an LCG), a few ns each.
///
/// Not `spin_loop`: an emulator leaves its translated code at every PAUSE.
pub(super) fn burn(rounds: u32) {
    let mut value = 1_u64;
    for _ in 0..rounds {
        value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    black_box(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_variants() {
        for work in WorkType::ALL {
            assert_eq!(work.to_string(), format!("{work:?}"));
        }
    }
}
