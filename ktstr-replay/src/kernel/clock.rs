//! The kernel's clocks: how long a jiffy is, how many there were, uptime.
//!
//! Sources: `kernel/time/jiffies.c`, `include/linux/jiffies.h`, `struct tk_read_base` of `kernel/time/timekeeping.c`.

use super::mirror::mirror;
use super::{KernelError, KernelView};

mirror! {
    /// `struct clocksource`, of which `clocksource_jiffies` tells how long a jiffy is.
    struct Clocksource, ClocksourceLayout = "clocksource" {
        mult: u64,
        shift: u64,
    }
}

/// The clock that sched_ext and much of the kernel count in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jiffies {
    /// Now, as `jiffies` has it: since a little before boot.
    pub now: u64,
    /// Length of one, in ns.
    pub each_ns: u64,
}

impl Jiffies {
    /// Read it.
    ///
    /// # Errors
    /// [`KernelError`] when the kernel has no such symbols.
    pub fn read(view: &KernelView<'_>) -> Result<Self, KernelError> {
        let symbols = view.profile().symbols();
        let now = match symbols.address("jiffies_64") {
            Some(at) => view.u64(at)?,
            None => view.u64(view.symbol("jiffies")?)?,
        };
        let each_ns = jiffy_ns(view).ok_or_else(|| KernelError::NoSymbol {
            name: "clocksource_jiffies".to_owned(),
            release: view.profile().release().to_owned(),
        })?;
        Ok(Self { now, each_ns })
    }

    /// How long ago `then` was, in ns; negative for what is yet to come.
    #[must_use]
    pub fn age_ns(&self, then: u64) -> i64 {
        let jiffies = self.now.wrapping_sub(then).cast_signed();
        jiffies.saturating_mul(i64::try_from(self.each_ns).unwrap_or(i64::MAX))
    }

    /// The kernel's uptime in ns, to a jiffy: `jiffies` began at `INITIAL_JIFFIES`, five minutes before it wraps as
    /// a 32-bit number.
    #[must_use]
    pub fn uptime_ns(&self) -> u64 {
        let hz = 1_000_000_000u64.checked_div(self.each_ns).unwrap_or_default();
        let initial = u64::from((hz * 300).wrapping_neg() as u32);
        self.now.wrapping_sub(initial).saturating_mul(self.each_ns)
    }
}

/// Length of a jiffy. `clocksource_jiffies` is `TICK_NSEC` shifted; it is how the kernel keeps `HZ` in its memory.
pub(super) fn jiffy_ns(view: &KernelView<'_>) -> Option<u64> {
    let at = view.profile().symbols().address("clocksource_jiffies")?;
    let clock: Clocksource = view.mirror(at).ok()?;
    let tick_ns = clock.mult.checked_shr(u32::try_from(clock.shift).ok()?).filter(|&ns| ns > 0)?;
    // TICK_NSEC is rounded; the jiffy itself is a whole part of a second.
    let hz = (1_000_000_000 + tick_ns / 2).checked_div(tick_ns)?;
    1_000_000_000u64.checked_div(hz)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_uptime_are_counted_in_jiffies() {
        // 250 Hz, ten seconds after boot: INITIAL_JIFFIES is (unsigned int)(-300 * HZ).
        let jiffies = Jiffies { now: 0xffff_ffff - 75_000 + 1 + 2500, each_ns: 4_000_000 };
        assert_eq!(jiffies.uptime_ns(), 10_000_000_000);
        assert_eq!(jiffies.age_ns(jiffies.now - 500), 2_000_000_000);
        assert_eq!(jiffies.age_ns(jiffies.now + 1), -4_000_000);
    }
}
