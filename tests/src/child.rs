//! Child processes that cannot outlast the test.

use std::fmt;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a child left.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed for people.
    pub stdout: String,
    /// What it printed as diagnostics.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, stdout, stderr, took } = self;
        write!(f, "{status} after {took:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// A child that is waited for elsewhere. It does not outlast a test that fails before.
#[derive(Debug)]
pub struct Mortal(pub Child);

impl Mortal {
    /// How it ended.
    ///
    /// # Panics
    /// When it goes on after `limit`.
    pub fn end_within(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("waiting for a child") {
                return status;
            }
            assert!(began.elapsed() < limit, "it goes on after {limit:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // It may end by itself meanwhile.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Runs `command` and collects what it prints.
///
/// # Panics
/// When it cannot be started, or has not ended after `limit`; it is killed then.
pub fn run_bounded(command: &mut Command, limit: Duration) -> Ended {
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = loop {
        if let Some(status) = child.try_wait().expect("waiting for a child") {
            break Some(status);
        }
        if began.elapsed() > limit {
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let Some(status) = status else {
        child.kill().expect("killing a child");
        child.wait().expect("waiting for a killed child");
        panic!("{command:?} has not ended after {limit:?}; it was killed");
    };
    let took = began.elapsed();
    Ended { status, stdout: stdout.join().expect("stdout"), stderr: stderr.join().expect("stderr"), took }
}

fn drain<R: Read + Send + 'static>(pipe: Option<R>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.expect("a pipe").read_to_end(&mut bytes).expect("reading a child's output");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
