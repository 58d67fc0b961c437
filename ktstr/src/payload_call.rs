//! Running payloads: from a test's body, and for scenarios.

use std::path::PathBuf;
use std::time::Duration;

use guest_init::message::FromTest;
use ktstr_replay::text::Candidates;
use ktstr_replay::trace::record::{PayloadEnd, PayloadRun};
use rkyv::rancor;

use crate::cgroup::{CgroupError, check_name};
use crate::channel::ChannelError;
use crate::ctx::Ctx;
use crate::payload::{Launch, LaunchError, MetricCheck, Payload, PayloadReport, PayloadSpec, Running};

/// What a payload may take beyond the workload window, if it does not say.
const SLACK: Duration = Duration::from_secs(10);
/// Most bytes of a run in one message: with its head it must fit into one packet (208 KiB by default).
const MOST_BYTES: usize = 190 << 10;

/// Why a payload could not be run.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It is not in the guest.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A name that no cgroup can have.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The cgroup that it is to be started in is not there.
    #[error(
        "payload `{name}` cannot be started in cgroup `{cgroup}`, which is not there at this time{candidates}"
    )]
    NoCgroup {
        /// The payload.
        name: &'static str,
        /// The cgroup.
        cgroup: String,
        /// Those that there are.
        candidates: Candidates,
    },
    /// It could not be started.
    #[error("payload `{name}` could not be started: {why}")]
    NotStarted {
        /// The payload.
        name: &'static str,
        /// Why not.
        why: String,
    },
    /// It was given no time.
    #[error("payload `{name}` has a timeout of zero")]
    NoTime {
        /// The payload.
        name: &'static str,
    },
    /// Its end was asked for before, and could not be recorded.
    #[error("the run of payload `{name}` could not be recorded before")]
    Unrecorded {
        /// The payload.
        name: &'static str,
    },
    /// Its run could not be archived for the trace.
    #[error("could not encode the run of a payload for the trace")]
    Encode(#[source] rancor::Error),
    /// The host could not be told.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

impl Ctx {
    /// A payload, to be run in the guest. The test's attributes must name it, so that it is there: `payload = Fio` or
    /// `workloads = [Fio]`.
    ///
    /// ```
    /// use ktstr::prelude::*;
    /// use std::time::Duration;
    ///
    /// #[derive(Payload)]
    /// #[payload(binary = "true", output = ExitCode)]
    /// struct Nothing;
    ///
    /// #[ktstr_test(payload = Nothing, duration_s = 2)]
    /// fn nothing_ends(ctx: &Ctx) -> Result<AssertResult> {
    ///     let report = ctx.payload(&Nothing).timeout(Duration::from_secs(5)).run()?;
    ///     ensure!(report.exit_code() == Some(0));
    ///     Ok(AssertResult::pass())
    /// }
    /// ```
    pub fn payload<P: Payload>(&self, payload: &P) -> PayloadCall<'_> {
        PayloadCall { ctx: self, spec: PayloadSpec::of(payload) }
    }
}

/// A payload that is about to be run. What is judged of the run is in the trace, however the body goes on.
///
/// ```
/// use ktstr::prelude::*;
/// use std::time::Duration;
///
/// #[derive(Payload)]
/// #[payload(binary = "stress-ng", package = "stress-ng")]
/// struct Stress;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     let call = ctx.payload(&Stress).args(["--cpu", "2", "--timeout", "2"]).timeout(Duration::from_secs(10));
///     ensure!(call.run()?.exit_code() == Some(0));
///     // Beside what the body does meanwhile; it is ended where the handle is dropped.
///     ctx.cgroups.create("load")?;
///     let mut handle = ctx.payload(&Stress).arg("--cpu=1").in_cgroup("load").spawn()?;
///     while handle.try_wait()?.is_none() {
///         ctx.capture_snapshot("under load")?;
///     }
///     Ok(AssertResult::pass())
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a payload does nothing until it is run"]
pub struct PayloadCall<'c> {
    ctx: &'c Ctx,
    spec: PayloadSpec,
}

impl<'c> PayloadCall<'c> {
    /// One more argument, behind those before.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.spec = self.spec.arg(arg);
        self
    }

    /// More arguments, behind those before.
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.spec = self.spec.args(args);
        self
    }

    /// Start it in this cgroup, which must be there.
    pub fn in_cgroup(mut self, name: impl Into<String>) -> Self {
        self.spec = self.spec.in_cgroup(name);
        self
    }

    /// How long it may take; without it, the workload window and 10 s. One that takes longer is ended, and fails.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec = self.spec.timeout(timeout);
        self
    }

    /// One more check of this run.
    pub fn check(mut self, check: MetricCheck) -> Self {
        self.spec = self.spec.check(check);
        self
    }

    /// Run it to its end. A payload that fails is no error here: the trace has it, and the verdict is made of that.
    ///
    /// # Errors
    /// [`PayloadError`]: it could not be started, or its run not be recorded.
    pub fn run(self) -> Result<PayloadReport, PayloadError> {
        end(self.ctx, begin(self.ctx, &self.spec)?)
    }

    /// Start it, and go on.
    ///
    /// # Errors
    /// As [`PayloadCall::run`].
    pub fn spawn(self) -> Result<PayloadHandle<'c>, PayloadError> {
        let running = begin(self.ctx, &self.spec)?;
        let name = running.name;
        Ok(PayloadHandle { ctx: self.ctx, name, running: Some(running), report: None })
    }
}

/// A payload that was started. It is ended, and recorded, when this is dropped.
///
/// ```
/// use ktstr::prelude::*;
///
/// #[derive(Payload)]
/// #[payload(binary = "stress-ng", package = "stress-ng")]
/// struct Stress;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     let load = ctx.payload(&Stress).args(["--cpu", "2"]).spawn()?;
///     let result = execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])?;
///     load.kill()?;
///     Ok(result)
/// }
/// ```
#[derive(Debug)]
#[must_use = "the payload is ended when its handle is dropped"]
pub struct PayloadHandle<'c> {
    ctx: &'c Ctx,
    name: &'static str,
    running: Option<Running>,
    report: Option<PayloadReport>,
}

impl PayloadHandle<'_> {
    /// Its process id in the guest; 0 once its end is known.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, Running::pid)
    }

    /// Wait for its end.
    ///
    /// # Errors
    /// Its run could not be recorded.
    pub fn wait(mut self) -> Result<PayloadReport, PayloadError> {
        self.collect()
    }

    /// What it came to, if it has ended.
    ///
    /// # Errors
    /// Its run could not be recorded.
    pub fn try_wait(&mut self) -> Result<Option<PayloadReport>, PayloadError> {
        match &self.running {
            Some(running) if !running.has_ended() => Ok(None),
            _ => self.collect().map(Some),
        }
    }

    /// End it, with SIGTERM and 5 s later with SIGKILL, and wait for that.
    ///
    /// # Errors
    /// Its run could not be recorded.
    pub fn kill(mut self) -> Result<PayloadReport, PayloadError> {
        if let Some(running) = self.running.as_ref().filter(|running| !running.has_ended()) {
            running.end();
            self.ctx.op("kill_payload", running.name)?;
        }
        self.collect()
    }

    fn collect(&mut self) -> Result<PayloadReport, PayloadError> {
        if let Some(running) = self.running.take() {
            self.report = Some(end(self.ctx, running)?);
        }
        self.report.clone().ok_or(PayloadError::Unrecorded { name: self.name })
    }
}

impl Drop for PayloadHandle<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
            // A channel that does not work fails the body with its next message.
            let _told = end(self.ctx, running);
        }
    }
}

/// What can be found wrong with a payload before it is started.
///
/// # Errors
/// A payload that is not in the guest, a bad name of a cgroup, a timeout of zero.
pub(crate) fn check(ctx: &Ctx, spec: &PayloadSpec) -> Result<(), PayloadError> {
    Launch::read(&ctx.root, spec.def)?;
    if let Some(cgroup) = &spec.cgroup {
        check_name(cgroup)?;
    }
    if spec.timeout == Some(Duration::ZERO) {
        return Err(PayloadError::NoTime { name: spec.def.name });
    }
    Ok(())
}

/// Start a payload. One that cannot be started is in the trace, too.
///
/// # Errors
/// [`PayloadError`].
pub(crate) fn begin(ctx: &Ctx, spec: &PayloadSpec) -> Result<Running, PayloadError> {
    check(ctx, spec)?;
    let folder = spec.cgroup.as_deref().map(|name| folder_of(ctx, spec.def.name, name)).transpose()?;
    match Running::start(spec, &ctx.root, folder, ctx.duration + SLACK) {
        Ok(running) => {
            let place = spec.cgroup.as_deref().map(|name| format!(" in {name}")).unwrap_or_default();
            ctx.op("run_payload", format!("{}{place}, pid {}", spec.def.name, running.pid()))?;
            Ok(running)
        }
        Err(report) => {
            let why = report.recorded().fault.clone().unwrap_or_default();
            tell(ctx, report.run)?;
            Err(PayloadError::NotStarted { name: spec.def.name, why })
        }
    }
}

/// Wait for a payload's end, and put it into the trace.
///
/// # Errors
/// Its run could not be recorded.
pub(crate) fn end(ctx: &Ctx, running: Running) -> Result<PayloadReport, PayloadError> {
    let report = running.wait();
    tell(ctx, report.run.clone())?;
    Ok(report)
}

fn tell(ctx: &Ctx, run: PayloadRun) -> Result<(), PayloadError> {
    debug_assert!(run.end != PayloadEnd::NotStarted || run.fault.is_some(), "it has a reason");
    Ok(ctx.tell(FromTest::Payload(archived(run)?))?)
}

/// The run as one packet takes it: metrics that do not fit are left out, and counted.
fn archived(mut run: PayloadRun) -> Result<Vec<u8>, PayloadError> {
    let archive = |run: &PayloadRun| rkyv::to_bytes::<rancor::Error>(run).map_err(PayloadError::Encode);
    let mut bytes = archive(&run)?;
    while bytes.len() > MOST_BYTES && !run.metrics.is_empty() {
        // Those that are judged come first.
        let kept = run.metrics.len() / 2;
        run.metrics_left_out += (run.metrics.len() - kept) as u64;
        run.metrics.truncate(kept);
        bytes = archive(&run)?;
    }
    Ok(bytes.to_vec())
}

fn folder_of(ctx: &Ctx, name: &'static str, cgroup: &str) -> Result<PathBuf, PayloadError> {
    let root = ctx.cgroups.root();
    let folder = root.join(cgroup);
    if folder.is_dir() {
        return Ok(folder);
    }
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let names = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let candidates = Candidates::new(cgroup, names);
    Err(PayloadError::NoCgroup { name, cgroup: cgroup.to_owned(), candidates })
}

#[cfg(test)]
mod tests {
    use ktstr_replay::trace::record::Metric;

    use super::*;

    #[test]
    fn a_run_that_is_too_large_for_a_packet_leaves_metrics_out_and_counts_them() {
        let metric = |i: usize| Metric { path: format!("{i:0200}"), value: 1.0 };
        let run = PayloadRun { metrics: (0..3000).map(metric).collect(), ..PayloadRun::default() };
        let bytes = archived(run).expect("archived");
        assert!(bytes.len() <= MOST_BYTES);
        let mut aligned = rkyv::util::AlignedVec::<16>::new();
        aligned.extend_from_slice(&bytes);
        let run = rkyv::from_bytes::<PayloadRun, rancor::Error>(&aligned).expect("a run");
        assert_eq!((run.metrics.len(), run.metrics_left_out), (750, 2250));
        assert_eq!(run.metrics[0].path, metric(0).path);
    }
}
