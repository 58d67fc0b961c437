//! What a test does with its scheduler: ending it, and starting it or another one.

use std::time::{Duration, Instant};

use guest_init::message::{SchedulerJob, SchedulerOrder};
use rustix::process::Signal;

use super::{ENABLE_COUNTED, ENABLE_TICK, GRACE_AFTER_TERM, JobRun};
use crate::Failure;
use crate::kernel::{is_sched_ext_enabled, sched_ext_state};
use crate::program::Running;

/// How long the kernel may take to give the tasks back to its own scheduler after a scheduler's process has ended.
const DISABLE_LIMIT: Duration = Duration::from_secs(30);

impl JobRun<'_> {
    /// Do what the test wants done with the scheduler, and tell it how that went. Returns whether it wanted anything.
    pub(super) fn obey(&mut self) -> bool {
        let done = match self.socket.take_order() {
            Some(SchedulerOrder::Detach) => self.detach(),
            Some(SchedulerOrder::Attach { name }) => self.attach(name.as_deref()),
            None => return false,
        };
        self.socket.answer_order(&done);
        true
    }

    /// End the scheduler as its user would. It is not looked for any more.
    fn detach(&mut self) -> Result<i32, Failure> {
        if self.delivery.scheduler.as_ref().is_some_and(SchedulerJob::is_built_in) {
            return self.switch_off().map(|()| 0);
        }
        // The test may have seen that it is back from a restart before this has: the kernel says so first, and counts it then.
        let begin = Instant::now();
        self.watch_scheduler()?;
        while self.scheduler_gone.is_some() && is_sched_ext_enabled()? && begin.elapsed() < ENABLE_COUNTED {
            self.turn(ENABLE_TICK);
            self.watch_scheduler()?;
        }
        let Some(scheduler) = &self.scheduler else { return Err("no scheduler is attached".to_owned()) };
        if !scheduler.is_alive() || self.scheduler_gone.is_some() {
            let how = scheduler.how_it_ended();
            return Err(format!("the scheduler is gone: {how}; sched_ext is {}", sched_ext_state()?));
        }
        scheduler.signal(Signal::INT);
        let exit_ms = self.delivery.scheduler.as_ref().map_or(0, |job| job.exit_timeout_ms);
        self.wait_for_scheduler(Duration::from_millis(exit_ms));
        let in_time = self.forget();
        let switched_off = self.switch_off();
        let begin = Instant::now();
        while is_sched_ext_enabled()? && begin.elapsed() < DISABLE_LIMIT {
            self.turn(ENABLE_TICK);
        }
        match sched_ext_state()? {
            _ if !in_time => Err(format!("the scheduler did not exit within {exit_ms} ms after SIGINT")),
            state if state == "disabled" => switched_off.map(|()| 0),
            state => Err(format!("the scheduler has exited, and sched_ext is still {state}")),
        }
    }

    /// Start the scheduler under test, or a staged one, where there is none.
    fn attach(&mut self, name: Option<&str>) -> Result<i32, Failure> {
        if self.scheduler.is_some() || !self.to_disable.is_empty() {
            return Err("a scheduler is attached already".to_owned());
        }
        let own = self.delivery.scheduler.clone();
        let mut job = own.ok_or_else(|| "the test has no scheduler".to_owned())?;
        if let Some(name) = name {
            let staged = self.delivery.test.iter().flat_map(|test| &test.staged);
            let staged = staged.into_iter().find(|staged| staged.name == name);
            let program = staged.map(|staged| staged.program.clone());
            job.program = program.ok_or_else(|| format!("no scheduler `{name}` is staged"))?;
            // They are of the scheduler under test.
            (job.enable, job.disable) = Default::default();
        }
        let enabled = match job.is_built_in() {
            true => self.switch_on(&job).map(|()| 0),
            false => self.bring_up(&job),
        };
        // What was begun is undone, and the first fault is told in any case.
        enabled.map_err(|why| {
            self.forget();
            match self.switch_off() {
                Ok(()) => why,
                Err(also) => format!("{why}; {also}"),
            }
        })
    }

    fn bring_up(&mut self, job: &SchedulerJob) -> Result<i32, Failure> {
        let seq_before = self.launch(job)?;
        self.await_enabled(job, seq_before)?;
        self.exit_reported = false;
        Ok(self.scheduler.as_ref().map_or(0, Running::pid))
    }

    /// The scheduler's process is not this run's any more. Returns whether it had ended on its own.
    fn forget(&mut self) -> bool {
        let ended = self.scheduler.as_ref().is_none_or(|scheduler| !scheduler.is_alive());
        if let Some(scheduler) = self.scheduler.as_ref().filter(|_| !ended) {
            scheduler.signal(Signal::KILL);
            self.wait_for_scheduler(GRACE_AFTER_TERM);
        }
        self.drain();
        self.scheduler = None;
        self.enable_seq = None;
        ended
    }
}
