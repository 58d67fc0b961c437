//! Watches, as a test describes them.

use ktstr_replay::units::nanos;
use std::fmt;
use std::time::Duration;

use guest_init::message::WatchOrder;
use ktstr_replay::path::SyntaxError;
use ktstr_replay::watch::{WatchCondition, WatchTarget};

/// Between a target and its condition in one text.
const WHEN: &str = " when ";

/// Something that is watched for stores: each takes a capture, with who stored, where in the code, and the value before and after.
///
/// ```
/// use ktstr::prelude::*;
/// use std::time::Duration;
///
/// let watch = WatchSpec::on("bss.nr_stalls").when("new > 100").max_fires(8).min_interval(Duration::from_millis(10));
/// assert_eq!(watch.to_string(), "bss.nr_stalls when new > 100");
/// let same = WatchSpec::on("bss.nr_stalls when new > 100");
/// assert_eq!(same.to_string(), watch.to_string());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchSpec(WatchOrder);

impl WatchSpec {
    /// Every store to `target`, up to 64 of them: a symbol of the kernel or what is reached from it (`jiffies_64`,
    /// `scx_root->exit_kind`, `kernel.runqueues.cpu(1).nr_running`), or a variable of the scheduler (`bss.nr_stalls`). A condition may
    /// follow: `bss.nr_stalls when new > 100`.
    pub fn on(target: impl Into<String>) -> Self {
        let text = target.into();
        match text.split_once(WHEN) {
            Some((target, when)) => {
                Self(WatchOrder { when: Some(when.trim().to_owned()), ..WatchOrder::of(target.trim()) })
            }
            None => Self(WatchOrder::of(text.trim())),
        }
    }

    /// Only stores for which this holds, of `old` and `new`: `new > 100`, `new != old and old in 0..5`.
    #[must_use]
    pub fn when(mut self, condition: impl Into<String>) -> Self {
        self.0.when = Some(condition.into());
        self
    }

    /// After this many fires it is taken away; 64 if nobody says.
    #[must_use]
    pub fn max_fires(mut self, fires: u32) -> Self {
        self.0.max_fires = fires.max(1);
        self
    }

    /// The least time between two fires, by the guest's clock. What comes sooner is counted.
    #[must_use]
    pub fn min_interval(mut self, interval: Duration) -> Self {
        self.0.min_interval_ns = nanos(interval);
        self
    }

    /// What the recorder is asked for.
    ///
    /// # Errors
    /// A target or a condition that cannot be read.
    pub(crate) fn order(&self) -> Result<WatchOrder, SyntaxError> {
        let _target: WatchTarget = self.0.target.parse()?;
        let _condition: Option<WatchCondition> = self.0.when.as_ref().map(|when| when.parse()).transpose()?;
        Ok(self.0.clone())
    }
}

impl<T: Into<String>> From<T> for WatchSpec {
    fn from(target: T) -> Self {
        Self::on(target)
    }
}

impl fmt::Display for WatchSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.target)?;
        match &self.0.when {
            Some(when) => write!(f, "{WHEN}{when}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_an_error_before_anything_runs() {
        for good in ["scx_root->exit_kind", "bss.x when new > 100", "kernel.runqueues.cpu(1).nr_running"] {
            assert!(WatchSpec::on(good).order().is_ok(), "{good}");
        }
        for bad in ["", "a b", "x when", "x when now > 1", "alive"] {
            assert!(WatchSpec::on(bad).order().is_err(), "{bad}");
        }
        assert!(WatchSpec::on("x").when("new >").order().is_err());
    }
}
