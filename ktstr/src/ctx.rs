//! What a test's body is given.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use guest_init::message::{FromTest, MemoryOrder, SchedulerOrder, WATCHDOG_TIMEOUT_MS};

use crate::cgroup::{CgroupDef, Cgroups};
use crate::channel::{Channel, ChannelError};
use crate::guest_topo::GuestTopology;
use crate::probe::ProbeSpec;
use crate::scheduler_life::SchedulerLife;
use crate::watch::WatchSpec;

/// Workers of a cgroup whose definition does not say.
const WORKERS_PER_CGROUP: usize = 2;

/// The guest, as a test's body sees it.
///
/// ```
/// use ktstr::prelude::*;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     ctx.capture_snapshot("idle")?;
///     let half = HoldSpec::Fixed(ctx.duration / 2);
///     execute_steps(ctx, vec![Step::new(vec![ctx.cgroup_def("cg_0")], half)])
/// }
/// ```
#[derive(Debug)]
pub struct Ctx {
    /// The workload window.
    pub duration: Duration,
    /// The test's `seed`, for whatever a body does at random; in the second machines of `auto_repro` another one in each.
    pub seed: u64,
    /// Workers of a cgroup whose definition does not say how many.
    pub workers_per_cgroup: usize,
    /// The machine's CPUs.
    pub topo: GuestTopology,
    /// The cgroup hierarchy.
    pub cgroups: Cgroups,
    pub(crate) life: Arc<SchedulerLife>,
    /// Names of the schedulers that may take its place.
    pub(crate) staged: Vec<&'static str>,
    /// The time of sched_ext's watchdog, of every scheduler that is attached.
    pub(crate) watchdog: Option<Duration>,
    /// Where the guest's file system begins.
    pub(crate) root: PathBuf,
    channel: Arc<Channel>,
    next_phase: Arc<AtomicU32>,
    held: Mutex<Duration>,
}

impl Ctx {
    pub(crate) fn new(
        duration: Duration,
        seed: u64,
        topo: GuestTopology,
        cgroups: Cgroups,
        life: SchedulerLife,
        root: PathBuf,
        channel: Arc<Channel>,
    ) -> Self {
        let (workers_per_cgroup, next_phase) = (WORKERS_PER_CGROUP, Arc::default());
        let life = Arc::new(life);
        let held = Mutex::new(Duration::ZERO);
        let (staged, watchdog) = (Vec::new(), None);
        Self {
            duration,
            seed,
            workers_per_cgroup,
            topo,
            cgroups,
            life,
            staged,
            watchdog,
            root,
            channel,
            next_phase,
            held,
        }
    }

    /// A cgroup with [`Ctx::workers_per_cgroup`] workers.
    pub fn cgroup_def(&self, name: impl Into<String>) -> CgroupDef {
        CgroupDef::named(name).workers(self.workers_per_cgroup)
    }

    /// The same guest with a part of the workload window, which is taken from this one's: for a body that runs scenarios one after the
    /// other, each of which would take the whole window. A part that is above what is left is what is left.
    ///
    /// ```
    /// use ktstr::prelude::*;
    ///
    /// fn body(ctx: &Ctx) -> Result<AssertResult> {
    ///     let steady = scenarios::steady(&ctx.part(0.5))?;
    ///     Ok(steady.merge(scenarios::oversubscribed(&ctx.part(0.5))?))
    /// }
    /// ```
    #[must_use]
    pub fn part(&self, fraction: f64) -> Self {
        // A duration takes neither a negative factor nor one that is no number.
        let wanted = self.duration.mul_f64(if fraction > 0.0 { fraction.min(1.0) } else { 0.0 });
        Self {
            duration: self.take_hold(wanted),
            seed: self.seed,
            workers_per_cgroup: self.workers_per_cgroup,
            topo: self.topo.clone(),
            cgroups: self.cgroups.clone(),
            life: Arc::clone(&self.life),
            staged: self.staged.clone(),
            watchdog: self.watchdog,
            root: self.root.clone(),
            channel: Arc::clone(&self.channel),
            next_phase: Arc::clone(&self.next_phase),
            held: Mutex::new(Duration::ZERO),
        }
    }

    /// Take a capture now. Returns once it was taken; repeats of a name are all kept, in order.
    ///
    /// # Errors
    /// A host that could not take it, a channel that does not work.
    pub fn capture_snapshot(&self, name: &str) -> Result<(), ChannelError> {
        self.channel.capture(name)
    }

    /// Watch something for stores from now on, to the end of the run: `"bss.nr_stalls"`, or a [`WatchSpec`] with a condition. Returns
    /// once it is watched; what is there only with a scheduler that is not attached is watched when it is.
    ///
    /// ```
    /// use ktstr::prelude::*;
    ///
    /// fn body(ctx: &Ctx) -> Result<AssertResult> {
    ///     ctx.watch_snapshot(WatchSpec::on("bss.nr_stalls").when("new > 10"))?;
    ///     ctx.probe("enqueue_task_scx(p->pid)")?;
    ///     let was = ctx.write_kernel("bss.slice_ns", 5_000_000)?;
    ///     ensure!(was > 0, "it had no slice");
    ///     execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
    /// }
    /// ```
    ///
    /// # Errors
    /// What cannot be read, or cannot be watched: the run then fails, whatever the body makes of it, and the report says why.
    pub fn watch_snapshot(&self, watch: impl Into<WatchSpec>) -> Result<(), ChannelError> {
        let order = watch.into().order().map_err(ChannelError::Syntax)?;
        self.channel.watch(order)
    }

    /// Record the calls of a function from now on, to the end of the run: `"enqueue_task_scx(p->pid)"`, or a [`ProbeSpec`] with a
    /// bound. Returns once its calls are seen; while no scheduler is attached, a program is waited for, and its calls are seen when its
    /// scheduler is.
    ///
    /// # Errors
    /// What cannot be read, or cannot be probed: the run then fails, whatever the body makes of it, and the report says why.
    pub fn probe(&self, probe: impl Into<ProbeSpec>) -> Result<(), ChannelError> {
        let order = probe.into().order().map_err(ChannelError::Syntax)?;
        self.channel.probe(order)
    }

    /// Read a number in the kernel's memory: a symbol or what is reached from it, or a variable of the scheduler, by the names that
    /// watches have. The host does so while the machine is stopped, and the trace has it as an event. `scx.watchdog_timeout_ms` is the time
    /// of sched_ext's stall watchdog.
    ///
    /// ```
    /// use ktstr::prelude::*;
    ///
    /// fn body(ctx: &Ctx) -> Result<AssertResult> {
    ///     let stalls = ctx.read_kernel("bss.nr_stalls")?;
    ///     ensure!(stalls == 0, "{stalls} stalls before anything ran");
    ///     execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
    /// }
    /// ```
    ///
    /// # Errors
    /// A number that is not there, with the names that are.
    pub fn read_kernel(&self, target: impl Into<String>) -> Result<i128, ChannelError> {
        self.channel.memory(MemoryOrder { target: target.into(), write: None })
    }

    /// Change a number in the kernel's memory, and return what it was. As [`Ctx::read_kernel`]; the value must be one of the number's
    /// type, as the kernel's BTF has it. It stays as it is: `Op::write_kernel` is undone at the end of its step.
    ///
    /// # Errors
    /// A number that is not there; a value that its type does not have.
    pub fn write_kernel(
        &self,
        target: impl Into<String>,
        value: impl Into<i128>,
    ) -> Result<i128, ChannelError> {
        self.channel.memory(MemoryOrder { target: target.into(), write: Some(value.into()) })
    }

    /// Give sched_ext's watchdog the time that the test says, if it does, now that a scheduler was enabled. One that restarts itself at this
    /// moment is waited for: until it is back there is nothing to give it to.
    pub(crate) fn set_watchdog(&self) -> Result<(), ChannelError> {
        let Some(time) = self.watchdog else { return Ok(()) };
        let ms = i128::try_from(time.as_millis()).unwrap_or(i128::MAX);
        self.life.tell_the_enabled(|| self.write_kernel(WATCHDOG_TIMEOUT_MS, ms).map(drop))
    }

    /// Have guest-init do something with the scheduler. Returns the scheduler's process id.
    pub(crate) fn order(&self, order: SchedulerOrder) -> Result<u32, ChannelError> {
        self.channel.order(order)
    }

    /// Whether the body runs in a guest: everywhere but in a `host_only` test.
    pub(crate) fn has_guest(&self) -> bool {
        self.channel.has_guest()
    }

    /// Note something in the trace.
    pub(crate) fn tell(&self, message: FromTest) -> Result<(), ChannelError> {
        self.channel.send(message)
    }

    /// Note an operation in the trace.
    pub(crate) fn op(&self, name: &str, detail: impl Into<String>) -> Result<(), ChannelError> {
        self.tell(FromTest::Op { name: name.to_owned(), detail: detail.into() })
    }

    /// A file of the guest, by its absolute path or one from the root.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// How many phases have begun.
    pub(crate) fn phases_begun(&self) -> u32 {
        self.next_phase.load(Ordering::Relaxed)
    }

    /// Number of the next phase.
    pub(crate) fn next_phase(&self) -> u32 {
        self.next_phase.fetch_add(1, Ordering::Relaxed)
    }

    /// Take up to `wanted` of what is left of the workload window.
    pub(crate) fn take_hold(&self, wanted: Duration) -> Duration {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = wanted.min(self.duration.saturating_sub(*held));
        *held += granted;
        granted
    }
}
