//! Waits that came near to a limit, as the recorder told of them when it took a capture for them.

use crate::text::{escaped, seconds};
use crate::trace::record::{EventBody, LongWait, WaitLimit};
use crate::units::GuestNs;

use super::Run;

impl Run<'_> {
    /// The waits that were told, with the guest's time then, in the order in which they came.
    pub(crate) fn long_waits(&self) -> impl DoubleEndedIterator<Item = (GuestNs, &LongWait)> {
        self.events.iter().filter_map(|event| match &event.body {
            EventBody::LongWait(wait) => Some((event.guest_ns, &**wait)),
            _ => None,
        })
    }
}

impl LongWait {
    /// Who had waited, for how long, and of what: `late[105] had been runnable for 1.008s of the 2.000s after which the watchdog
    /// ejects a scheduler, on the runqueue of CPU 1`.
    #[must_use]
    pub(crate) fn in_words(&self) -> String {
        let time = |ns: u64| seconds(i64::try_from(ns).unwrap_or(i64::MAX));
        let (waited, limit) = (time(self.waited_ns), time(self.limit_ns));
        let (who, may) = match self.limit {
            WaitLimit::CheckIn => {
                return format!(
                    "the watchdog had not checked in for {waited} of the {limit} after which the scheduler is ejected"
                );
            }
            WaitLimit::Watchdog => (escaped(&self.comm), "after which the watchdog ejects a scheduler"),
            WaitLimit::Gap => (escaped(&self.comm), "for which a worker may make no turn"),
        };
        let pid = self.pid.map_or_else(String::new, |pid| format!("[{pid}]"));
        let on = self.cpu.map_or_else(String::new, |cpu| format!(", on the runqueue of CPU {cpu}"));
        format!("{who}{pid} had been runnable for {waited} of the {limit} {may}{on}")
    }
}
