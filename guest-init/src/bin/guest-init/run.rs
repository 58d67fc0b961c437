//! The run of a job: the scheduler, the test binary, and the end of both.

mod lines;
mod orders;

use std::time::{Duration, Instant};

use guest_init::layout::STATE_BUSY;
use guest_init::message::{
    CaptureReason, EchoLine, GuestStage, RESTART_MS, SCHEDULER_PID, SchedulerJob, Source, TestJob, ToHost,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::Failure;
use crate::delivery::Delivery;
use crate::kernel::{
    Kmsg, Uevents, is_sched_ext_enabled, sched_ext_enable_seq, sched_ext_ops_name, sched_ext_state,
    set_sysctls,
};
use crate::link::Link;
use crate::program::{Running, reap};
use crate::reserve::GivenPages;
use crate::socket::TestSocket;
use crate::stats::Stats;

/// How often sched_ext's state and the host's ring are looked at, beyond what descriptors tell.
const TICK: Duration = Duration::from_millis(50);
/// The same while the scheduler is being enabled.
const ENABLE_TICK: Duration = Duration::from_millis(5);
/// The same while files of the job are still to come.
const DELIVERY_TICK: Duration = Duration::from_millis(1);
/// How long the kernel may take to count an enabling.
const ENABLE_COUNTED: Duration = Duration::from_secs(5);
/// How long the test goes on after the time in which the scheduler could have come back, so that it can say what it saw.
const GRACE_AFTER_SCHEDULER: Duration = Duration::from_secs(1);
/// How long a test has between SIGTERM and SIGKILL.
const GRACE_AFTER_TERM: Duration = Duration::from_secs(1);
/// How long output is waited for after its program ended: orphans may hold the pipe.
const DRAIN: Duration = Duration::from_millis(100);

/// Everything that runs, and what has been said of it.
pub struct JobRun<'a> {
    link: &'a mut Link,
    kmsg: &'a mut Kmsg,
    delivery: Delivery,
    /// What is wrong with what the host sent.
    delivery_failure: Option<Failure>,
    scheduler: Option<Running>,
    /// What is written when the scheduler has ended.
    to_disable: Vec<EchoLine>,
    test: Option<Running>,
    socket: TestSocket,
    uevents: Option<Uevents>,
    stats: Stats,
    /// Which enabling of sched_ext is the scheduler's, where the kernel tells.
    enable_seq: Option<u64>,
    /// When it was seen that the scheduler is not enabled any more.
    scheduler_gone: Option<Instant>,
    exit_reported: bool,
}

impl<'a> JobRun<'a> {
    /// A run that has not begun.
    pub fn new(link: &'a mut Link, kmsg: &'a mut Kmsg, socket: TestSocket, delivery: Delivery) -> Self {
        Self {
            link,
            kmsg,
            delivery,
            delivery_failure: None,
            scheduler: None,
            to_disable: Vec::new(),
            test: None,
            socket,
            uevents: None,
            stats: Stats::default(),
            enable_seq: None,
            scheduler_gone: None,
            exit_reported: false,
        }
    }

    /// Run everything to its end; nothing of it runs afterwards.
    pub fn finish(mut self) -> Result<(), Failure> {
        let outcome = self.phases();
        self.end_test();
        let scheduler = self.end_scheduler();
        let switched_off = self.switch_off();
        let unanswered = self.stats.give_up("the run ended before an answer came");
        self.say(unanswered);
        outcome.and(scheduler).and(switched_off)
    }

    fn phases(&mut self) -> Result<(), Failure> {
        self.receive_until(|delivery| delivery.has_scheduler || delivery.has_test)?;
        if let Some(job) = self.delivery.scheduler.clone() {
            self.start_scheduler(&job)?;
        }
        if !self.delivery.has_test {
            // A template may be saved until the test comes: nothing may depend on a moment in this state.
            self.link.await_test();
        }
        self.receive_until(|delivery| delivery.has_test)?;
        self.link.set_state(STATE_BUSY);
        let Some(job) = self.delivery.test.clone().filter(|_| !self.delivery.stop) else { return Ok(()) };
        if job.waits {
            self.start_test(&job)?;
        }
        self.link.capture("attach", CaptureReason::Attach);
        self.run_test(&job)
    }

    /// Take in what the host sends until enough of it is there, or it wants the run to end.
    fn receive_until(&mut self, enough: impl Fn(&Delivery) -> bool) -> Result<(), Failure> {
        while !enough(&self.delivery) && !self.delivery.stop {
            self.turn(DELIVERY_TICK);
            self.check_delivery()?;
        }
        Ok(())
    }

    fn check_delivery(&mut self) -> Result<(), Failure> {
        self.delivery_failure.take().map_or(Ok(()), Err)
    }

    /// Start the scheduler and wait until it is enabled.
    fn start_scheduler(&mut self, job: &SchedulerJob) -> Result<(), Failure> {
        if self.delivery.stop {
            return Ok(());
        }
        self.uevents = Some(Uevents::listen()?);
        set_sysctls(&job.sysctls)?;
        if job.is_built_in() {
            self.switch_on(job)?;
            self.link.stage(GuestStage::SchedulerEnabled, "");
            return Ok(());
        }
        let seq_before = self.launch(job)?;
        self.link.stage(GuestStage::SchedulerStarted, &*job.program.path);
        self.await_enabled(job, seq_before)?;
        self.link.stage(GuestStage::SchedulerEnabled, sched_ext_ops_name());
        Ok(())
    }

    /// Start a scheduler's program. Returns the number of the last enabling before it.
    fn launch(&mut self, job: &SchedulerJob) -> Result<Option<u64>, Failure> {
        if is_sched_ext_enabled()? {
            return Err(format!("a scheduler is enabled already: {}", sched_ext_ops_name()));
        }
        self.switch_on(job)?;
        let seq_before = sched_ext_enable_seq();
        let unanswered = self.stats.begin_anew();
        self.say(unanswered);
        self.scheduler = Some(Running::start(Source::Scheduler, &job.program)?);
        Ok(seq_before)
    }

    /// Wait until the scheduler that was started is enabled.
    fn await_enabled(&mut self, job: &SchedulerJob, seq_before: Option<u64>) -> Result<(), Failure> {
        let timeout = Duration::from_millis(job.enable_timeout_ms);
        let begin = Instant::now();
        while !is_sched_ext_enabled()? && !self.delivery.stop {
            self.turn(ENABLE_TICK);
            self.check_delivery()?;
            if self.test.is_none()
                && self.delivery.has_test
                && let Some(test) = self.delivery.test.clone().filter(|test| test.waits)
            {
                self.start_test(&test)?;
            }
            if let Some(scheduler) = self.scheduler.as_ref().filter(|scheduler| !scheduler.is_alive()) {
                let how = scheduler.how_it_ended();
                self.drain();
                return Err(format!("the scheduler ended before it was enabled: {how}; its output says why"));
            }
            if begin.elapsed() >= timeout {
                let state = sched_ext_state()?;
                self.drain();
                self.link.capture("not_enabled", CaptureReason::NotEnabled);
                return Err(format!(
                    "the scheduler was not enabled within {timeout:?}; sched_ext is {state}"
                ));
            }
        }
        // The kernel counts the enabling a moment after it says `enabled` (`scx_enable` in its kernel/sched/ext.c).
        let begin = Instant::now();
        while seq_before.is_some() && sched_ext_enable_seq() == seq_before && begin.elapsed() < ENABLE_COUNTED
        {
            self.turn(DELIVERY_TICK);
        }
        self.enable_seq = sched_ext_enable_seq();
        Ok(())
    }

    /// Start the test binary, if it is not started yet.
    fn start_test(&mut self, job: &TestJob) -> Result<(), Failure> {
        if self.test.is_some() {
            return Ok(());
        }
        set_sysctls(&job.sysctls)?;
        let mut program = job.program.clone();
        if let Some(scheduler) = &self.scheduler {
            program.env.push(format!("{SCHEDULER_PID}={}", scheduler.pid()));
            program.env.push(format!("{RESTART_MS}={}", job.restart_timeout_ms));
        }
        self.test = Some(self.socket.hand_over(|| Running::start(Source::Test, &program))?);
        Ok(())
    }

    /// Run the test binary until it has ended, by itself or not.
    fn run_test(&mut self, job: &TestJob) -> Result<(), Failure> {
        match self.test {
            Some(_) => self.socket.begin(),
            None => self.start_test(job)?,
        }
        let timeout = Duration::from_millis(job.timeout_ms);
        let mut begin = Instant::now();
        let mut ended_by: Option<(String, Instant)> = None;
        while self.test.as_ref().is_some_and(Running::is_alive) {
            let turn = Instant::now();
            self.turn(TICK);
            let obeyed = self.obey();
            self.watch_scheduler()?;
            // What the scheduler takes to come and go is not the test's: it has limits of its own.
            if obeyed || self.scheduler_gone.is_some() {
                begin += turn.elapsed();
            }
            let reason = match &ended_by {
                None => self.reason_to_end(begin, timeout, job),
                Some((_, since)) => {
                    if since.elapsed() >= GRACE_AFTER_TERM {
                        self.signal_test(Signal::KILL);
                    }
                    None
                }
            };
            if let Some(reason) = reason {
                self.signal_test(Signal::TERM);
                ended_by = Some((reason, Instant::now()));
            }
        }
        self.drain();
        self.link.capture("end", CaptureReason::End);
        self.await_stats();
        let how = self.test.as_ref().map(Running::how_it_ended).unwrap_or_default();
        let detail = match ended_by {
            Some((reason, _)) => format!("{how}; ended by init: {reason}"),
            None => how,
        };
        self.link.stage(GuestStage::TestExited, detail);
        Ok(())
    }

    fn reason_to_end(&self, begin: Instant, timeout: Duration, job: &TestJob) -> Option<String> {
        if self.delivery.stop {
            return Some("the host asked for it".into());
        }
        let lives = self.scheduler.as_ref().is_some_and(Running::is_alive);
        let restart = if lives { Duration::from_millis(job.restart_timeout_ms) } else { Duration::ZERO };
        let patience = restart + GRACE_AFTER_SCHEDULER;
        if self.scheduler_gone.is_some_and(|gone| gone.elapsed() >= patience) {
            return Some(format!("the scheduler had been gone for {patience:?}"));
        }
        (begin.elapsed() >= timeout).then(|| format!("it ran for longer than {timeout:?}"))
    }

    /// Notice that the scheduler is gone, while its state can still be captured, and that it is back. One that was away
    /// for less than the time between two looks shows by the number of its enabling.
    fn watch_scheduler(&mut self) -> Result<(), Failure> {
        let Some(scheduler) = &self.scheduler else { return Ok(()) };
        let alive = scheduler.is_alive();
        let enabled = is_sched_ext_enabled()?;
        let seq = sched_ext_enable_seq();
        let is_another = enabled && seq != self.enable_seq;
        if self.scheduler_gone.is_none() && (!alive || !enabled || is_another) {
            self.scheduler_gone = Some(Instant::now());
            self.link.capture("scheduler_exit", CaptureReason::SchedulerExit);
        }
        if self.scheduler_gone.is_some() && alive && (is_another || enabled && seq.is_none()) {
            self.scheduler_gone = None;
            self.enable_seq = seq;
            self.link.stage(GuestStage::SchedulerRestarted, sched_ext_ops_name());
        }
        if !alive {
            self.report_scheduler_exit("")?;
        }
        Ok(())
    }

    fn report_scheduler_exit(&mut self, why: &str) -> Result<(), Failure> {
        let Some(scheduler) = self.scheduler.as_ref().filter(|_| !self.exit_reported) else { return Ok(()) };
        let detail = format!("{}{why}; sched_ext is {}", scheduler.how_it_ended(), sched_ext_state()?);
        self.exit_reported = true;
        self.link.stage(GuestStage::SchedulerExited, detail);
        Ok(())
    }

    /// End what is left of the test: its workers, and itself if the run failed.
    fn end_test(&mut self) {
        self.signal_test(Signal::KILL);
        let begin = Instant::now();
        while self.test.as_ref().is_some_and(Running::is_alive) && begin.elapsed() < GRACE_AFTER_TERM {
            self.turn(ENABLE_TICK);
        }
    }

    /// End the scheduler as its user would, with SIGINT, and by force if that does not help.
    fn end_scheduler(&mut self) -> Result<(), Failure> {
        let Some(scheduler) = &self.scheduler else { return Ok(()) };
        let exit_ms = self.delivery.scheduler.as_ref().map_or(0, |job| job.exit_timeout_ms);
        let timeout = Duration::from_millis(exit_ms);
        let mut why = "";
        if scheduler.is_alive() {
            scheduler.signal(Signal::INT);
            why = " after SIGINT";
            self.wait_for_scheduler(timeout);
        }
        if let Some(scheduler) = self.scheduler.as_ref().filter(|scheduler| scheduler.is_alive()) {
            scheduler.signal(Signal::KILL);
            why = " because it did not exit in time after SIGINT";
            self.wait_for_scheduler(GRACE_AFTER_TERM);
        }
        self.drain();
        self.report_scheduler_exit(why)
    }

    fn wait_for_scheduler(&mut self, timeout: Duration) {
        let begin = Instant::now();
        while self.scheduler.as_ref().is_some_and(Running::is_alive) && begin.elapsed() < timeout {
            self.turn(ENABLE_TICK);
        }
    }

    fn signal_test(&self, signal: Signal) {
        if let Some(test) = &self.test {
            test.signal(signal);
        }
    }

    /// Let the scheduler answer what it was asked, while it lives. Each question has its limit.
    fn await_stats(&mut self) {
        self.listen_to_host();
        while self.stats.is_asking() {
            self.turn(ENABLE_TICK);
        }
    }

    fn say(&mut self, messages: impl IntoIterator<Item = ToHost>) {
        messages.into_iter().for_each(|message| self.link.send(&message));
    }

    /// Pass on what ended programs left in their pipes.
    fn drain(&mut self) {
        let begin = Instant::now();
        while self.turn(Duration::from_millis(1)) && begin.elapsed() < DRAIN {}
    }

    /// Sleep until something happens, at most for `timeout`, and pass it on; whether anything was.
    fn turn(&mut self, timeout: Duration) -> bool {
        let is_watched = self.delivery.has_test && !self.socket.awaits_host() && !self.delivery.has_shell();
        let ready = self.wait(if is_watched { timeout } else { timeout.min(DELIVERY_TICK) });
        for source in &ready {
            match source {
                Ready::Kmsg => {
                    self.kmsg.relay(self.link);
                }
                Ready::Uevents => self.uevents.iter().for_each(Uevents::clear),
                Ready::Socket => self.socket.serve(self.link),
                Ready::Pipe(source, i) => {
                    let program = match source {
                        Source::Scheduler => &mut self.scheduler,
                        _ => &mut self.test,
                    };
                    program.iter_mut().for_each(|program| program.pipes[*i].relay(self.link));
                }
                Ready::Exit | Ready::Stats => {}
            }
        }
        reap(&mut [&mut self.scheduler, &mut self.test]);
        self.listen_to_host();
        let answers = self.stats.turn();
        self.say(answers);
        !ready.is_empty()
    }

    /// Block in poll until a descriptor is ready.
    fn wait(&self, timeout: Duration) -> Vec<Ready> {
        let mut names = vec![Ready::Kmsg];
        let mut fds = vec![PollFd::new(self.kmsg, PollFlags::IN)];
        if let Some(uevents) = &self.uevents {
            names.push(Ready::Uevents);
            fds.push(PollFd::new(uevents, PollFlags::IN));
        }
        if let Some(fd) = self.socket.fd() {
            names.push(Ready::Socket);
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        if let Some(fd) = self.stats.fd() {
            names.push(Ready::Stats);
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for program in [&self.scheduler, &self.test].into_iter().flatten() {
            for (i, fd) in program.pipes.iter().enumerate().filter_map(|(i, pipe)| Some((i, pipe.fd()?))) {
                names.push(Ready::Pipe(program.source, i));
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
            if program.is_alive() {
                names.push(Ready::Exit);
                fds.push(PollFd::new(&program.pidfd, PollFlags::IN));
            }
        }
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        if poll(&mut fds, Some(&timeout)).is_err() {
            return Vec::new();
        }
        let ready = fds.iter().zip(names).filter(|(fd, _)| !fd.revents().is_empty());
        ready.map(|(_, name)| name).collect()
    }

    fn listen_to_host(&mut self) {
        let (had_all, had_scheduler) = (self.delivery.has_test, self.delivery.has_scheduler);
        // The scheduler is started before more is unpacked.
        while self.delivery.has_scheduler == had_scheduler
            && let Some(archive) = self.link.receive()
        {
            let taken = archive
                .map_err(|loss| format!("receiving the job: {loss}"))
                .and_then(|archive| self.delivery.take(archive));
            match taken {
                Ok(()) => {
                    if let Some(GivenPages { stamp, frames }) = self.delivery.tell_where() {
                        self.link.send(&ToHost::Pages { stamp, frames });
                    }
                }
                // A run that has all it needs goes on.
                Err(why) if had_all => self.link.note(&format!("from the host: {why}")),
                Err(why) => {
                    self.delivery_failure.get_or_insert(why);
                }
            }
        }
        while let Some(input) = self.delivery.shell.pop_front() {
            if !self.socket.pass_on(&input) {
                self.delivery.shell.push_front(input);
                break;
            }
        }
        for answer in std::mem::take(&mut self.delivery.memory) {
            self.socket.answer_memory(&answer);
        }
        for sample in std::mem::take(&mut self.delivery.captured) {
            // Without a scheduler there is nobody to ask.
            if self.scheduler.is_some() {
                let refused = self.stats.captured(sample);
                self.say(refused);
            }
        }
        if self.delivery.has_test && !had_all {
            let placed = self.delivery.placed_bytes;
            let detail =
                if placed > 0 { format!("{placed} bytes placed by the host") } else { String::new() };
            self.link.stage(GuestStage::JobUnpacked, detail);
        }
    }
}

/// What poll found.
enum Ready {
    Kmsg,
    Uevents,
    Socket,
    Stats,
    /// The pipe of this number of the scheduler or the test.
    Pipe(Source, usize),
    Exit,
}
