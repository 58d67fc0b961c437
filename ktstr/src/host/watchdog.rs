//! A test's check that does not return after its run was ended. The signals have been heeded by the recording, and nothing else looks at
//! them while code of the test's author runs.

use std::path::Path;
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use ktstr_record::recorder::is_interrupted;

use super::say::say;
use super::shell::for_shell;

/// How long a check may go on after its run was ended. nextest kills tests after 10 s.
const TO_RETURN: Duration = Duration::from_secs(5);
/// How often it is asked whether the run was ended.
const POLL: Duration = Duration::from_millis(50);
/// What libtest ends with after a test that failed.
const FAILED: i32 = 101;

/// Ends this process where a check goes on for too long. Dropped when the check has returned.
pub struct Watchdog(#[expect(dead_code, reason = "its end is what the thread waits for")] Sender<()>);

impl Watchdog {
    /// For the check that is called `label`, of the trace at `path`, which is kept as it is.
    pub fn of(label: &str, path: &Path) -> Self {
        let (sender, returned) = mpsc::channel();
        let text = format!(
            "the run was ended, and the check {label} has not returned for {} s since, so that there is no verdict. The trace is kept; \
             to judge it without the check: ktstr replay {} --assert",
            TO_RETURN.as_secs(),
            for_shell(path)
        );
        thread::spawn(move || {
            let mut ended: Option<Instant> = None;
            while returned.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
                if is_interrupted() && ended.get_or_insert_with(Instant::now).elapsed() >= TO_RETURN {
                    say(&text);
                    process::exit(FAILED);
                }
            }
        });
        Self(sender)
    }
}
