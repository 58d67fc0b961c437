//! A run of a payload: a process of its own group, looked after by a thread until it has ended.

use std::fs::OpenOptions;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ktstr_replay::trace::record::{DeclaredMetric, PayloadEnd, PayloadOutput, PayloadRun};
use ktstr_replay::units::nanos;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::json;
use super::launch::{FILES, Launch};
use super::output::Stream;
use super::report::PayloadReport;
use super::spec::PayloadSpec;
use crate::worker::monotonic_ns;

/// How long a payload that is ended with SIGTERM may take before it is killed: it may have a summary to write.
const GRACE: Duration = Duration::from_secs(5);
/// Reads after that: more than the kernel keeps in two pipes.
const LATE_READS: u32 = 64;
/// Longer than any guest runs.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long the pipes of an ended payload may stay open: what it left behind was killed.
const DRAIN: Duration = Duration::from_secs(2);
/// How often a payload is killed that does not end.
const KILLS: u32 = 3;
/// Most bytes of the paths of a run's metrics: all of it goes into one packet.
const METRIC_BYTES: usize = 64 << 10;
/// Most metrics of a run.
const METRICS: usize = 2000;
/// Most bytes of a run's arguments.
const ARG_BYTES: usize = 16 << 10;

/// A payload that was started. It is ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// The payload's name.
    pub name: &'static str,
    /// The cgroup that it was started in, by name.
    pub cgroup: Option<String>,
    pid: u32,
    order: PipeWriter,
    thread: Option<JoinHandle<PayloadReport>>,
}

impl Running {
    /// Start a payload. `root`: where the guest's file system begins; `cgroup`: the folder of the one that it is started in;
    /// `timeout`: what it may take if its own does not say.
    ///
    /// # Errors
    /// The run that could not be begun, with the reason.
    pub fn start(
        spec: &PayloadSpec,
        root: &Path,
        cgroup: Option<PathBuf>,
        timeout: Duration,
    ) -> Result<Self, Box<PayloadReport>> {
        let timeout = spec.timeout.unwrap_or(timeout);
        let (began, mut run) = (Instant::now(), run_of(spec, timeout));
        let started = Launch::read(root, spec.def).map_err(|error| error.to_string()).and_then(|launch| {
            run.program.clone_from(&launch.program);
            run.package.clone_from(&launch.package);
            spawn(spec, &launch, root, cgroup.as_deref())
        });
        let failed = |mut run: PayloadRun, why: String| {
            run.fault = Some(why);
            Box::new(PayloadReport { run, stdout: String::new(), stderr: String::new() })
        };
        let (child, order, told) = match started {
            Ok(started) => started,
            Err(why) => return Err(failed(run, why)),
        };
        let pid = child.id();
        run.pid = pid;
        let mut watched = Watched::new(child, told, run, began, timeout);
        let thread =
            thread::Builder::new().name(format!("payload {}", spec.def.name)).spawn(move || watched.watch());
        match thread {
            Ok(thread) => {
                let (name, cgroup) = (spec.def.name, spec.cgroup.clone());
                Ok(Self { name, cgroup, pid, order, thread: Some(thread) })
            }
            Err(error) => {
                kill(pid, Signal::KILL);
                Err(failed(
                    run_of(spec, timeout),
                    format!("no thread could be made to look after it: {error}"),
                ))
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// End it: with SIGTERM, and 5 s later with SIGKILL. One that has ended already did so by itself. Does not wait.
    pub fn end(&self) {
        // Nobody reads it where it has ended.
        let _gone = (&self.order).write_all(&[1]);
    }

    /// Wait for its end, and what it came to.
    pub fn wait(mut self) -> PayloadReport {
        self.join()
    }

    fn join(&mut self) -> PayloadReport {
        let lost = || {
            let run = PayloadRun {
                name: self.name.to_owned(),
                pid: self.pid,
                end: PayloadEnd::Lost,
                fault: Some("the thread that looked after it has died".to_owned()),
                ..PayloadRun::default()
            };
            PayloadReport { run, stdout: String::new(), stderr: String::new() }
        };
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_else(lost)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
            let _nobody_asks = self.join();
        }
    }
}

/// What is known before the start.
fn run_of(spec: &PayloadSpec, timeout: Duration) -> PayloadRun {
    let declared = spec.def.metrics.iter().map(|metric| DeclaredMetric {
        path: metric.name.to_owned(),
        polarity: metric.polarity,
        unit: metric.unit.to_owned(),
    });
    PayloadRun {
        name: spec.def.name.to_owned(),
        program: spec.def.binary.to_owned(),
        args: shortened(spec.all_args()),
        cgroup: spec.cgroup.clone().unwrap_or_default(),
        began_ns: monotonic_ns(),
        timeout_ns: nanos(timeout),
        end: PayloadEnd::NotStarted,
        output: spec.def.output,
        declared: declared.collect(),
        checks: spec.all_checks().map(super::MetricCheck::recorded).collect(),
        ..PayloadRun::default()
    }
}

/// Arguments as the trace keeps them: very long ones are cut.
fn shortened(args: Vec<String>) -> Vec<String> {
    let (mut left, count) = (ARG_BYTES, args.len());
    let fits = |arg: &String| {
        let fits = arg.len() < left;
        left = left.saturating_sub(arg.len() + 1);
        fits
    };
    let mut kept: Vec<String> = args.into_iter().take_while(fits).collect();
    if kept.len() < count {
        kept.push(format!("(and {} more)", count - kept.len()));
    }
    kept
}

fn spawn(
    spec: &PayloadSpec,
    launch: &Launch,
    root: &Path,
    cgroup: Option<&Path>,
) -> Result<(Child, PipeWriter, PipeReader), String> {
    let (told, order) = io::pipe().map_err(|error| format!("no pipe could be made: {error}"))?;
    let mut command = Command::new(&launch.program);
    command.args(&launch.args).args(spec.all_args()).env_clear();
    command.envs(launch.env.iter().filter_map(|variable| variable.split_once('=')));
    let files = root.join(FILES.trim_start_matches('/'));
    command.current_dir(if files.is_dir() { files } else { root.to_owned() });
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    if let Some(folder) = cgroup {
        let path = folder.join("cgroup.procs");
        let procs = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(|error| format!("it could not be put into its cgroup: {}: {error}", path.display()))?;
        let join = move || (&procs).write_all(b"0");
        // SAFETY: between fork and exec the closure does nothing but a write to an open file, which is async-signal-safe; it
        // allocates nothing and takes no lock.
        unsafe { command.pre_exec(join) };
    }
    let child = command.spawn().map_err(|error| {
        let program = &launch.program;
        match error.kind() {
            io::ErrorKind::NotFound => {
                format!("there is no {program}, or not the loader or interpreter that it names")
            }
            _ => format!("{program}: {error}"),
        }
    })?;
    Ok((child, order, told))
}

/// A process with its thread's view of it.
struct Watched {
    pid: u32,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    told: PipeReader,
    run: PayloadRun,
    out: Stream,
    err: Stream,
    /// The same moment as the run's `began_ns`.
    began: Instant,
    timeout: Duration,
}

/// What a look at a process found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Ended,
    Ordered,
    Late,
}

impl Watched {
    fn new(mut child: Child, told: PipeReader, run: PayloadRun, began: Instant, timeout: Duration) -> Self {
        Self {
            pid: child.id(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            told,
            run,
            out: Stream::default(),
            err: Stream::default(),
            began,
            timeout,
        }
    }

    /// Look after it until it has ended, and say what it came to.
    fn watch(&mut self) -> PayloadReport {
        let ended = self.wait();
        self.run.wall_ns = nanos(self.began.elapsed());
        match ended {
            Ok(end) => self.run.end = end,
            Err(errno) => {
                self.run.end = PayloadEnd::Lost;
                self.run.fault = Some(format!("it could not be waited for: {errno}"));
            }
        }
        // What it has left behind in its group would keep its pipes and its cgroup.
        kill(self.pid, Signal::KILL);
        self.reap();
        self.drain();
        self.measure();
        PayloadReport { run: std::mem::take(&mut self.run), stdout: self.out.head(), stderr: self.err.head() }
    }

    /// Read its output to the end, but not for ever: what has left its group may hold the pipes. What is in them by then is read.
    fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        let mut late = 0;
        while (self.stdout.is_some() || self.stderr.is_some()) && late < LATE_READS {
            late += u32::from(Instant::now() >= until);
            if !matches!(self.look(None, until), Ok(None)) {
                return;
            }
        }
    }

    /// Read its output until it has ended, or is ended.
    fn wait(&mut self) -> Result<PayloadEnd, Errno> {
        let pid = pid_of(self.pid).ok_or(Errno::SRCH)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        // A time that no clock reaches is as good as none.
        let mut until = self.began.checked_add(self.timeout).unwrap_or(self.began + NEVER);
        let mut end = PayloadEnd::Ended;
        let mut kills = 0;
        loop {
            let seen = self.look(Some(pidfd.as_fd()), until)?;
            match seen {
                None => {}
                Some(Seen::Ended) => return Ok(end),
                Some(seen) if end == PayloadEnd::Ended => {
                    end = if seen == Seen::Late { PayloadEnd::TimedOut } else { PayloadEnd::Stopped };
                    kill(self.pid, Signal::TERM);
                    until = Instant::now() + GRACE;
                }
                Some(Seen::Ordered) => {}
                // It is stuck in the kernel.
                Some(Seen::Late) if kills == KILLS => return Err(Errno::TIMEDOUT),
                Some(Seen::Late) => {
                    kills += 1;
                    kill(self.pid, Signal::KILL);
                    until = Instant::now() + GRACE;
                }
            }
        }
    }

    /// Wait for output, an order, the end of the process, or `until`.
    fn look(&mut self, process: Option<BorrowedFd<'_>>, until: Instant) -> Result<Option<Seen>, Errno> {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = Vec::with_capacity(4);
        let mut add = |fd| {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            fds.len() - 1
        };
        let out = self.stdout.as_ref().map(|pipe| add(pipe.as_fd()));
        let err = self.stderr.as_ref().map(|pipe| add(pipe.as_fd()));
        let order = process.map(|_| add(self.told.as_fd()));
        let end = process.map(&mut add);
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut fds, Some(&timeout)) {
            Err(Errno::INTR) => return Ok(None),
            other => other?,
        };
        let ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
        let (out, err, order, end) = (ready(out), ready(err), ready(order), ready(end));
        if out && !self.stdout.as_mut().is_some_and(|pipe| self.out.take(pipe)) {
            self.stdout = None;
        }
        if err && !self.stderr.as_mut().is_some_and(|pipe| self.err.take(pipe)) {
            self.stderr = None;
        }
        if end {
            return Ok(Some(Seen::Ended));
        }
        if order {
            let mut word = [0_u8; 1];
            // One word is all that is written, and the writer lives until the thread has ended.
            let _read = self.told.read(&mut word);
            return Ok(Some(Seen::Ordered));
        }
        // It is late when its time is over, however much it writes. One that has ended is late when nothing is left to be read.
        let is_late = left.is_zero() && (process.is_some() || !(out || err));
        Ok(is_late.then_some(Seen::Late))
    }

    /// Take its exit status and the time that it used.
    fn reap(&mut self) {
        let Ok(pid) = libc::pid_t::try_from(self.pid) else { return };
        // One that is stuck would never be reaped.
        let options = if self.run.end == PayloadEnd::Lost { libc::WNOHANG } else { 0 };
        let mut status = 0;
        // SAFETY: all zeros is a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let waited = loop {
            // SAFETY: the kernel writes an `int` and a `rusage`, which are borrowed for the call.
            let waited = unsafe { libc::wait4(pid, &raw mut status, options, &raw mut usage) };
            if waited >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                break waited;
            }
        };
        if waited != pid {
            let why = io::Error::last_os_error();
            self.run.end = PayloadEnd::Lost;
            self.run.fault.get_or_insert_with(|| format!("its exit status was not to be had: {why}"));
            return;
        }
        let ns = |time: libc::timeval| {
            let (s, us) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
            s.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(us.unwrap_or(0) * 1000)
        };
        self.run.cpu_ns = ns(usage.ru_utime).saturating_add(ns(usage.ru_stime));
        self.run.exit_code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        self.run.signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
    }

    /// What its output says.
    fn measure(&mut self) {
        let Self { run, out, err, .. } = self;
        (run.stdout_bytes, run.stderr_bytes) = (out.bytes, err.bytes);
        (run.stdout_tail, run.stderr_tail) = (out.tail(), err.tail());
        if run.output == PayloadOutput::ExitCode {
            return;
        }
        match json::metrics(out, err) {
            Ok(metrics) => {
                let asked = |path: &str| {
                    run.declared.iter().any(|metric| metric.path == path)
                        || run.checks.iter().any(|check| super::check::is_about(check, path))
                };
                // Those that are judged are kept, whatever else does not fit.
                let (mut kept, others): (Vec<_>, Vec<_>) =
                    metrics.into_iter().partition(|metric| asked(&metric.path));
                let (mut bytes, all) = (0, kept.len() + others.len());
                kept.extend(others.into_iter().take(METRICS).take_while(|metric| {
                    bytes += metric.path.len();
                    bytes <= METRIC_BYTES
                }));
                run.metrics_left_out = (all - kept.len()) as u64;
                run.metrics = kept;
            }
            Err(why) => run.metrics_fault = Some(why),
        }
    }
}

/// Send a signal to all of a payload's process group. What has ended needs none.
fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = pid_of(pid) {
        let _gone = kill_process_group(pid, signal);
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}
