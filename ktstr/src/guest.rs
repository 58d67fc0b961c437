//! Guest mode: the test binary, started by guest-init in the VM, runs the body and tells the host how it went.

use std::any::Any;
use std::env;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use guest_init::message::{FromTest, RESTART_MS, SCHEDULER_PID, SEED, SHELL};

use crate::assert::AssertResult;
use crate::cgroup::Cgroups;
use crate::channel::Channel;
use crate::ctx::Ctx;
use crate::guest_topo::GuestTopology;
use crate::scheduler_life::SchedulerLife;
use crate::shell;
use crate::test_def::TestDef;

/// Run a test's body in the guest. What it finds goes to the host; the result only decides this process's exit
/// code.
///
/// # Errors
/// A body that failed, an assertion that did not hold, a channel that does not work.
pub fn run(def: &TestDef, socket: OwnedFd) -> anyhow::Result<()> {
    let sys = Path::new("/sys");
    let topo = GuestTopology::read(sys).and_then(|topo| {
        topo.check(def.topology, sys)?;
        Ok(topo)
    });
    // All that can be done before is done: init starts this process while the scheduler is being enabled.
    Channel::await_begin(&socket)?;
    let channel = Channel::new(socket)?;
    // The body counts as begun even when the machine is not as declared: its end then has the reason.
    channel.send(FromTest::BodyStarted)?;
    let channel = Arc::new(channel);
    if let Ok(kind) = env::var(SHELL) {
        let ended = shell::run(&kind, &channel).map_err(|error| format!("{error:#}"));
        channel.send(FromTest::BodyEnded { error: ended.err(), failures: Vec::new() })?;
        return Ok(());
    }
    let ctx = topo.map_err(anyhow::Error::new).and_then(|topo| context(def, topo, Arc::clone(&channel)));
    finish(def, ctx, &channel)
}

/// Run the body of a `host_only` test in this process, which the recorder has started for that.
///
/// # Errors
/// As [`run`].
pub fn run_on_host(def: &TestDef, socket: OwnedFd) -> anyhow::Result<()> {
    let channel = Arc::new(Channel::on_host(socket));
    channel.send(FromTest::BodyStarted)?;
    let ctx = GuestTopology::read(Path::new("/sys")).map_err(anyhow::Error::new).map(|topo| {
        let cgroups = Cgroups::at(NO_CGROUPS);
        let life = SchedulerLife::none();
        Ctx::new(def.duration(), def.seed, topo, cgroups, life, "/".into(), Arc::clone(&channel))
    });
    finish(def, ctx, &channel)
}

/// Where nothing can be made: the cgroups of the host are not a test's to change.
const NO_CGROUPS: &str = "/proc/self/cgroups-of-a-host_only-test";

/// Run the body, and say what came of it.
fn finish(def: &TestDef, ctx: anyhow::Result<Ctx>, channel: &Channel) -> anyhow::Result<()> {
    let result = ctx.and_then(|ctx| {
        ctx.set_watchdog().context("`watchdog_timeout_s` of the test")?;
        caught(|| (def.body)(&ctx))
    });
    let result = result.map_err(|error| format!("{error:#}"));
    let (error, failures) = match result {
        Ok(result) => (None, result.failures().to_vec()),
        Err(error) => (Some(error), Vec::new()),
    };
    let passed = error.is_none() && failures.is_empty();
    let mut lines: Vec<&str> = error.iter().map(String::as_str).collect();
    lines.extend(failures.iter().map(String::as_str));
    let text = lines.join("\n");
    channel.send(FromTest::BodyEnded { error, failures })?;
    anyhow::ensure!(passed, text);
    Ok(())
}

fn context(def: &TestDef, topo: GuestTopology, channel: Arc<Channel>) -> anyhow::Result<Ctx> {
    let life = match def.scheduler {
        Some(scheduler) if !scheduler.is_built_in() => {
            let state_file = PathBuf::from(SchedulerLife::STATE_FILE);
            let process = env::var_os(SCHEDULER_PID).map(|pid| Path::new("/proc").join(pid));
            let restart_ms = env::var(RESTART_MS).ok().and_then(|ms| ms.parse().ok()).unwrap_or_default();
            let restart = Duration::from_millis(restart_ms);
            SchedulerLife::watched(scheduler.name, state_file, process, restart)
        }
        // Of one that is part of the kernel nothing tells that it is on but what its lines were written to.
        Some(scheduler) => SchedulerLife::built_in(scheduler.name),
        None => SchedulerLife::none(),
    };
    let mut cgroups = Cgroups::at(Cgroups::GUEST_ROOT);
    if let Some(parent) = def.scheduler.and_then(|scheduler| scheduler.cgroup_parent) {
        cgroups = cgroups.below(parent).context("the scheduler's `cgroup_parent`")?;
    }
    let seed = env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(def.seed);
    let mut ctx = Ctx::new(def.duration(), seed, topo, cgroups, life, "/".into(), channel);
    ctx.watchdog = def.watchdog_timeout_s.map(Duration::from_secs);
    ctx.staged = def.staged_schedulers.iter().map(|scheduler| scheduler.name).collect();
    Ok(ctx)
}

/// Run the body; a panic becomes an error with its message and place.
fn caught(body: impl FnOnce() -> anyhow::Result<AssertResult>) -> anyhow::Result<AssertResult> {
    let place = Arc::new(Mutex::new(None));
    let hook_place = Arc::clone(&place);
    let before = Arc::new(panic::take_hook());
    let chained = Arc::clone(&before);
    panic::set_hook(Box::new(move |info| {
        let at = info.location().map(ToString::to_string);
        *hook_place.lock().unwrap_or_else(PoisonError::into_inner) = at;
        chained(info);
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    panic::set_hook(Box::new(move |info| before(info)));
    result.unwrap_or_else(|payload| {
        let at = place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let at = at.unwrap_or_else(|| "an unknown place".to_owned());
        Err(anyhow::anyhow!("the body panicked at {at}: {}", message(&*payload)))
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_message_and_place() {
        let line = line!() + 1;
        let error = caught(|| panic!("number {}", 7)).expect_err("a panic").to_string();
        let place = format!("the body panicked at {}:{line}:", file!());
        assert!(error.starts_with(&place) && error.ends_with(": number 7"), "{error}");
    }

    #[test]
    fn a_result_passes_through() {
        let failed = caught(|| Ok(AssertResult::fail("x"))).expect("no panic");
        assert_eq!(failed.failures(), ["x"]);
        let error = caught(|| anyhow::bail!("no")).expect_err("an error").to_string();
        assert_eq!(error, "no");
    }
}
