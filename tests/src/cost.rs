//! What something costs the work of a guest, by pairs of windows with it and without it, one after the other in one boot: so that what
//! else the host does falls on both. The guest measures and prints a line; the host reads the line out of the trace.

use std::fmt;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use ktstr_replay::trace::Trace;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::written::written;

/// How long a window is.
const WINDOW: Duration = Duration::from_millis(200);
/// What goes before each: code that has just been patched, or was translated before a stop, is translated anew by the emulator.
const WARM: Duration = Duration::from_millis(100);
/// What a line of a cost begins with.
const HEAD: &str = "COST ";

/// What something costs, in percent of the work that is done without it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// What was measured. It has no `: ` in it.
    pub of: String,
    /// The median of the pairs.
    pub median_pct: f64,
    /// Half of the pairs are between these.
    pub quartiles_pct: (f64, f64),
    /// What was done without it, in turns a second, the median.
    pub turns_per_s: f64,
}

impl Cost {
    /// In the guest: do `work`, which tells the turns that it made until a time, in so many `pairs` of windows. `turn` turns on, or off,
    /// what is measured; it is called where that changes, first to turn it off.
    ///
    /// # Errors
    /// That of `turn`.
    pub fn measure<E>(
        of: &str,
        pairs: usize,
        work: impl Fn(Instant) -> u64,
        mut turn: impl FnMut(bool) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (mut costs, mut turns, mut is_on) = (Vec::new(), Vec::new(), None);
        for pair in 0..pairs {
            // In either order, so that a trend of the host's speed favours neither.
            let mut rates = [0.0; 2];
            for on in [pair % 2, 1 - pair % 2] {
                if is_on != Some(on == 1) {
                    turn(on == 1)?;
                    is_on = Some(on == 1);
                }
                work(Instant::now() + WARM);
                let begun = Instant::now();
                let done = work(begun + WINDOW);
                rates[on] = done as f64 / begun.elapsed().as_secs_f64();
            }
            costs.push((1.0 - rates[1] / rates[0]) * 100.0);
            turns.push(rates[0]);
        }
        costs.sort_by(f64::total_cmp);
        turns.sort_by(f64::total_cmp);
        let at =
            |sorted: &[f64], quarter: usize| sorted.get(quarter * pairs / 4).copied().unwrap_or(f64::NAN);
        Ok(Self {
            of: of.to_owned(),
            median_pct: at(&costs, 2),
            quartiles_pct: (at(&costs, 1), at(&costs, 3)),
            turns_per_s: at(&turns, 2),
        })
    }

    /// In the guest: write its line. Not by a macro, whose output libtest keeps to itself.
    ///
    /// # Errors
    /// A standard output that takes nothing.
    pub fn say(&self) -> io::Result<()> {
        writeln!(io::stdout(), "\n{HEAD}{self}")
    }

    /// On the host: what a run's body has said, in the order in which it did.
    #[must_use]
    pub fn said_in(trace: &Trace) -> Vec<Self> {
        written(trace).lines().filter_map(|line| line.strip_prefix(HEAD)?.parse().ok()).collect()
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, median_pct, quartiles_pct: (first, third), turns_per_s } = self;
        write!(
            f,
            "{of}: {median_pct:.2} % of {turns_per_s:.0} turns a second, half of the pairs from {first:.2} to {third:.2} %"
        )
    }
}

/// A line that is no cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCost;

impl FromStr for Cost {
    type Err = NoCost;

    fn from_str(line: &str) -> Result<Self, NoCost> {
        let (of, rest) = line.split_once(": ").ok_or(NoCost)?;
        let numbers: Vec<f64> = rest.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [median_pct, turns_per_s, first, third] = numbers[..] else { return Err(NoCost) };
        Ok(Self { of: of.to_owned(), median_pct, quartiles_pct: (first, third), turns_per_s })
    }
}

/// In the guest: keep the calling thread, and those that it will start, to CPU 1. Two that wait for each other on two CPUs wait for the
/// host's scheduler, too.
///
/// # Errors
/// That of `sched_setaffinity`.
pub fn on_one_cpu() -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(1);
    sched_setaffinity(None, &set)?;
    Ok(())
}

/// Turns of a loop that only computes, until then.
#[must_use]
pub fn spin(until: Instant) -> u64 {
    let mut turns = 0;
    while Instant::now() < until {
        compute(20_000);
        turns += 1;
    }
    turns
}

fn compute(steps: u64) {
    let mut sum = 0u64;
    for i in 0..steps {
        sum = black_box(sum.wrapping_mul(31).wrapping_add(i));
    }
}

/// Turns, until then, of two threads that wake each other by pipes, and compute for so many steps in each turn.
#[must_use]
pub fn ping_pong(until: Instant, steps: u64) -> u64 {
    let (Ok((mut from_here, mut there)), Ok((mut from_there, mut back))) = (io::pipe(), io::pipe()) else {
        return 0;
    };
    let other = thread::spawn(move || {
        let mut byte = [0];
        while from_here.read_exact(&mut byte).is_ok() && back.write_all(&byte).is_ok() {}
    });
    let mut turns = 0;
    let mut byte = [0];
    while Instant::now() < until && there.write_all(&byte).is_ok() && from_there.read_exact(&mut byte).is_ok()
    {
        compute(steps);
        turns += 1;
    }
    drop(there);
    let _ended = other.join();
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_read() {
        let cost = Cost {
            of: "scx_root->exit_kind".to_owned(),
            median_pct: -0.25,
            quartiles_pct: (-1.5, 2.75),
            turns_per_s: 1000.0,
        };
        assert_eq!(cost.to_string().parse(), Ok(cost));
        for none in ["", "a: 1 % of 2", "spins: many % of all"] {
            assert_eq!(none.parse::<Cost>(), Err(NoCost), "{none}");
        }
    }

    #[test]
    fn it_is_turned_off_first_and_then_where_it_changes() {
        let mut turned = Vec::new();
        let turn = |on| {
            turned.push(on);
            Ok::<(), NoCost>(())
        };
        // Windows that take next to no time, as the work does not wait for their end; a clock may be too coarse for none.
        let work = |_: Instant| -> u64 {
            thread::sleep(Duration::from_millis(1));
            1000
        };
        let cost = Cost::measure("nothing", 4, work, turn).expect("a cost");
        assert_eq!(turned, [false, true, false, true, false]);
        assert!(cost.median_pct.is_finite() && cost.turns_per_s > 0.0, "{cost}");
    }
}
