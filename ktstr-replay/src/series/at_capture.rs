//! What else a snapshot has: runqueues and sched_ext's state of the sample, and, out of the memory that was kept with it, tasks, dispatch
//! queues and whatever the kernel has a symbol for.

use crate::kernel::dsq::{Dsqs, read_dsqs};
use crate::kernel::query::number;
use crate::kernel::task::{Tasks, read_tasks};
use crate::path::{KernelPath, Projection, SyntaxError};
use crate::trace::record::{CpuState, ScxState};
use crate::units::Cpu;
use crate::value::{Scalar, Snapshot, ValueError};

use super::memory::Memory;
use super::read::{no_cpu, not_recorded};
use super::{Absent, Column, Samples, Series};

impl<'a> Snapshot<'a> {
    /// The runqueue of a CPU, as it is in the sample itself: it needs no checkpoint.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    /// use ktstr_replay::units::Cpu;
    ///
    /// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
    /// let captures = trace.periodic();
    /// let first = captures.snapshots().next().expect("a capture");
    /// assert!(first.rq(Cpu(0))?.nr_running.is_some());
    /// assert_eq!(first.rq(Cpu(99)).unwrap_err().to_string(), "there is no CPU 99; there are 0, 1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ValueError::AtCapture`] with the CPUs that there are; [`ValueError::Missed`].
    pub fn rq(&self, cpu: Cpu) -> Result<&'a CpuState, ValueError> {
        self.present()?;
        let sample = self.sample();
        sample.cpus.iter().find(|state| state.cpu == cpu).ok_or_else(|| because(&no_cpu(sample, cpu)))
    }

    /// sched_ext's state, as it is in the sample itself: it needs no checkpoint.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    ///
    /// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
    /// let captures = trace.periodic();
    /// let first = captures.snapshots().next().expect("a capture");
    /// assert_eq!(first.scx()?.ops_name.as_deref(), Some("demo"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ValueError::AtCapture`] when it was not recorded; [`ValueError::Missed`].
    pub fn scx(&self) -> Result<&'a ScxState, ValueError> {
        self.present()?;
        let sample = self.sample();
        sample.scx.as_ref().ok_or_else(|| because(&not_recorded(sample, "sched_ext's state")))
    }

    /// Every dispatch queue, with the tasks that wait in it; what could not be read of them is in its `gaps`. Out of the checkpoint, at
    /// each call: keep what it returns.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    ///
    /// let trace = Trace::open("../traces/stall.trace.zst".as_ref())?;
    /// let captures = trace.captures();
    /// let with_memory = captures.snapshots().find(|capture| capture.sample().checkpoint.is_some());
    /// let queues = with_memory.expect("a checkpoint").dsqs()?;
    /// assert!(queues.dsqs.iter().any(|queue| queue.id.number == 0), "the scheduler's own");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ValueError::AtCapture`]: no memory was kept with the capture, or it cannot be read; [`ValueError::Missed`].
    pub fn dsqs(&self) -> Result<Dsqs, ValueError> {
        self.in_memory(|memory| read_dsqs(&memory.view).map_err(|error| error.to_string()))
    }

    /// Every task; what could not be read of them is in its `gaps`. Out of the checkpoint, at each call: keep what it returns.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    ///
    /// let trace = Trace::open("../traces/stall.trace.zst".as_ref())?;
    /// let captures = trace.captures();
    /// let with_memory = captures.snapshots().find(|capture| capture.sample().checkpoint.is_some());
    /// let tasks = with_memory.expect("a checkpoint").tasks()?;
    /// assert!(tasks.by_pid(1).is_some_and(|init| init.comm == "init"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::dsqs`].
    pub fn tasks(&self) -> Result<Tasks, ValueError> {
        self.in_memory(|memory| read_tasks(&memory.view).map_err(|error| error.to_string()))
    }

    /// A number in the kernel's memory: a symbol, and what is reached from it, as `kernel.` of claims has it.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    ///
    /// let trace = Trace::open("../traces/stall.trace.zst".as_ref())?;
    /// let captures = trace.captures();
    /// let with_memory = captures.snapshots().find(|capture| capture.sample().checkpoint.is_some());
    /// let capture = with_memory.expect("a checkpoint");
    /// assert!(capture.kernel("scx_watchdog_timestamp")?.to_f64() > 0.0);
    /// assert!(capture.kernel("init_task.pid")?.to_f64() == 0.0);
    /// let error = capture.kernel("scx_watchdog_timestmp").unwrap_err().to_string();
    /// assert!(error.contains("scx_watchdog_timestamp"), "{error}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ValueError::BadPath`]; as [`Snapshot::dsqs`], with the names that there are.
    pub fn kernel(&self, path: &str) -> Result<Scalar, ValueError> {
        let path = kernel_path(path)?;
        self.in_memory(|memory| {
            number(&memory.view, &path).map(|reading| reading.scalar).map_err(|error| error.to_string())
        })
    }

    fn in_memory<R>(&self, look: impl FnOnce(&Memory<'_>) -> Result<R, String>) -> Result<R, ValueError> {
        self.present()?;
        let Some(samples) = self.origin().and_then(|origin| origin.downcast_ref::<Samples>()) else {
            let why = "this sample stands alone, without the trace that has the memory".to_owned();
            return Err(ValueError::AtCapture { why });
        };
        samples.kernel().at(self.sample(), |open| {
            let memory = open().map_err(|absent| because(&absent))?;
            look(memory).map_err(|why| ValueError::AtCapture { why })
        })
    }
}

/// The path of a number of the kernel, given without the `kernel.` before it.
fn kernel_path(text: &str) -> Result<KernelPath, ValueError> {
    match format!("kernel.{text}").parse() {
        Ok(Projection::Kernel(path)) => Ok(path),
        Ok(_) => Err(ValueError::BadPath {
            path: text.to_owned(),
            at: 1,
            why: "it is no symbol of the kernel, nor what is reached from one".to_owned(),
        }),
        Err(error) => Err(error.into()),
    }
}

fn because(absent: &Absent) -> ValueError {
    ValueError::AtCapture { why: absent.reason().to_owned() }
}

/// The runqueue of one CPU over a series, to make columns of.
#[derive(Clone)]
pub struct SeriesCpu<'s> {
    series: &'s Series,
    cpu: Cpu,
}

impl Series {
    /// The runqueue of a CPU: `series.cpu(Cpu(1)).field("nr_running")`.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    /// use ktstr_replay::units::Cpu;
    /// use ktstr_replay::verdict::{Outcome, Verdict};
    ///
    /// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
    /// let mut v = Verdict::new();
    /// trace.periodic().cpu(Cpu(1)).field("nr_running").each(..100, &mut v);
    /// assert_eq!((v.outcome(), v.findings[0].what.as_str()), (Outcome::Pass, "each(rq[1].nr_running in ..100)"));
    /// # Ok::<(), ktstr_replay::trace::TraceError>(())
    /// ```
    pub fn cpu(&self, cpu: Cpu) -> SeriesCpu<'_> {
        SeriesCpu { series: self, cpu }
    }
}

impl SeriesCpu<'_> {
    /// A field of it: `nr_running`, `scx_nr_running`, `local_dsq_nr`, `scx_flags`, `clock_ns` and `curr_pid` are in each sample; any other of
    /// `struct rq`, such as `nr_switches` or `curr->pid`, is in the memory that was kept with it. What is not there says what is, in each
    /// value.
    pub fn field(&self, path: &str) -> Column {
        let parsed: Result<Projection, SyntaxError> = format!("rq[{}].{path}", self.cpu).parse();
        match parsed {
            Ok(projection) => self.series.column(&projection),
            Err(error) => {
                let why = Absent::Unreadable(ValueError::from(error).to_string());
                let label = Projection::Closure(format!("rq[{}].{path}", self.cpu));
                self.series.build(label, |_| Err(why.clone()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TraceBuilder;

    #[test]
    fn what_a_capture_does_not_have_says_why() {
        let trace = TraceBuilder::new().periodic(&[10]).trace();
        let series = trace.periodic();
        let capture = series.snapshots().next().expect("a capture");
        for error in [
            capture.tasks().map(drop).unwrap_err(),
            capture.dsqs().map(drop).unwrap_err(),
            capture.kernel("jiffies_64").map(drop).unwrap_err(),
        ] {
            assert!(error.to_string().contains("no checkpoint was taken"), "{error}");
        }
        assert!(capture.kernel("a b").unwrap_err().to_string().contains("is not a path"));
        assert!(capture.rq(Cpu(0)).is_err() && capture.scx().is_ok());
        let column = series.cpu(Cpu(0)).field("nr_running[");
        assert!(column.points[0].value.as_ref().is_err_and(|why| why.to_string().contains("is not a path")));
        let column = series.cpu(Cpu(0)).field("nr_switches");
        assert!(column.points[0].value.as_ref().is_err_and(|why| why.to_string().contains("no checkpoint")));
    }
}
