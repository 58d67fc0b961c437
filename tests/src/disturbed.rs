//! Runs that something is done to meanwhile: their emulator is stopped, they are interrupted.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr_replay::trace::Trace;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::child::{Mortal, run_bounded};
use crate::fixture::fixture;
use crate::ktstr::ktstr;
use crate::procs::descendants;

/// Longer than any of these runs takes, also when others boot.
const LIMIT: Duration = Duration::from_secs(600);
/// How often it is looked whether something has come.
const LOOK: Duration = Duration::from_millis(20);
/// What the emulator's program is called.
const EMULATOR: &str = "qemu-system-x86_64";
/// CPU time of a thread that executes a guest, in ns: those of an emulator that has not begun have less.
const EXECUTES_NS: u64 = 50_000_000;

/// A fixture's run that something is done to meanwhile.
#[derive(Debug)]
pub struct Disturbed {
    child: Mortal,
    results: TempDir,
}

impl Disturbed {
    /// Starts a fixture with these variables in its environment.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, variables: &[(&str, &str)]) -> Self {
        let (mut command, results) = fixture(name).into_parts();
        command.envs(variables.iter().copied());
        let child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child: Mortal(child.expect("a child")), results }
    }

    /// Waits until `ready`.
    ///
    /// # Panics
    /// When it is not within ten minutes.
    pub fn wait_until(&self, what: &str, ready: impl Fn() -> bool) {
        let began = Instant::now();
        while !ready() {
            assert!(began.elapsed() < LIMIT, "not there after {LIMIT:?}: {what}");
            sleep(LOOK);
        }
    }

    fn emulator(&self) -> Option<Pid> {
        let pid = descendants(self.child.0.id()).pids_of(EMULATOR).first().copied()?;
        Pid::from_raw(i32::try_from(pid).ok()?)
    }

    /// Waits until the emulator executes its guest.
    ///
    /// # Panics
    /// As [`Disturbed::wait_until`].
    pub fn wait_until_it_boots(&self) {
        let executes = || {
            let emulator = self.emulator()?.as_raw_nonzero().to_string();
            let threads = fs::read_dir(format!("/proc/{emulator}/task")).ok()?.flatten();
            // Its first thread executes nothing of the guest.
            let others = threads.filter(|thread| thread.file_name().to_str() != Some(&emulator));
            let ran_ns = |thread: fs::DirEntry| {
                let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
                text.split_whitespace().next()?.parse::<u64>().ok()
            };
            others.filter_map(ran_ns).find(|ns| *ns > EXECUTES_NS)
        };
        self.wait_until("a guest that executes", || executes().is_some());
    }

    /// Sends a signal to the emulator.
    ///
    /// # Panics
    /// When there is none.
    pub fn signal_emulator(&self, signal: Signal) {
        kill_process(self.emulator().expect("an emulator"), signal).expect("it takes signals");
    }

    /// Sends a signal to the run.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.0), signal).expect("it takes signals");
    }

    /// Its trace as far as it is written, if there is one.
    ///
    /// # Panics
    /// When the folder of results cannot be read.
    pub fn trace(&self) -> Option<Trace> {
        let entry = self.results.path().read_dir().expect("results").next()?;
        Trace::open(&entry.expect("an entry").path()).ok()
    }

    /// Its end, its trace, and the report of that.
    ///
    /// # Panics
    /// When it left none.
    pub fn end(mut self) -> (ExitStatus, Trace, String) {
        let status = self.child.0.wait().expect("waiting");
        let trace = self.trace().expect("a trace");
        let entry = self.results.path().read_dir().expect("results").next();
        let path = entry.expect("a trace").expect("an entry").path();
        let replay = run_bounded(ktstr().arg("replay").arg(path).arg("--assert"), LIMIT);
        (status, trace, replay.stdout)
    }
}
