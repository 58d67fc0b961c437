//! Tells a person who waits for a scheduler to be enabled that it is still on its way.

use std::io::{Write, stderr};
use std::time::{Duration, Instant};

use guest_init::message::{GuestStage, Source, ToHost};

/// How often it is told.
const EVERY: Duration = Duration::from_secs(10);
/// The most that is kept and shown of a line of the scheduler's.
const LINE_BYTES: usize = 160;

/// A scheduler on its way to being enabled.
#[derive(Debug)]
pub(super) struct Enabling {
    limit: Duration,
    /// When its program was started, until it is enabled or ends.
    since: Option<Instant>,
    told: u32,
    /// What it wrote last.
    line: Vec<u8>,
}

impl Enabling {
    /// Nothing was started yet; what will be has `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: None, told: 0, line: Vec::new() }
    }

    /// Take note of what the guest says.
    pub(super) fn hear(&mut self, message: &ToHost) {
        match message {
            ToHost::Stage { stage: GuestStage::SchedulerStarted, .. } => self.since = Some(Instant::now()),
            ToHost::Stage {
                stage: GuestStage::SchedulerEnabled | GuestStage::SchedulerExited | GuestStage::Failed,
                ..
            } => self.since = None,
            ToHost::Output { source: Source::Scheduler, bytes, .. } if self.since.is_some() => {
                let lines = bytes.split(|&byte| byte == b'\n');
                if let Some(line) = lines.rev().find(|line| !line.trim_ascii().is_empty()) {
                    self.line = line[..line.len().min(LINE_BYTES)].to_vec();
                }
            }
            _ => {}
        }
    }

    /// Say it, if it is time to. The test harness keeps what a passing test prints to itself, so this goes past it.
    pub(super) fn tell(&mut self) {
        if let Some(text) = self.since.and_then(|since| self.due(since.elapsed())) {
            // Who cannot be told misses a note, and nothing else.
            let _ = writeln!(stderr().lock(), "ktstr: {text}");
        }
    }

    fn due(&mut self, elapsed: Duration) -> Option<String> {
        if elapsed < EVERY * (self.told + 1) {
            return None;
        }
        self.told += 1;
        let said = match self.line.as_slice() {
            [] => "it wrote nothing yet".to_owned(),
            line => format!("it last wrote `{}`", String::from_utf8_lossy(line).escape_debug()),
        };
        let (elapsed, limit) = (elapsed.as_secs(), self.limit.as_secs());
        Some(format!("the scheduler is not enabled after {elapsed} s, of {limit} s that it has; {said}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(stage: GuestStage) -> ToHost {
        ToHost::Stage { stage, detail: String::new() }
    }

    fn output(source: Source, text: &str) -> ToHost {
        ToHost::Output { source, stderr: true, bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn it_is_told_every_ten_seconds_with_the_last_line() {
        let mut enabling = Enabling::new(Duration::from_secs(300));
        enabling.hear(&stage(GuestStage::SchedulerStarted));
        assert_eq!(enabling.due(Duration::from_secs(9)), None);
        let told = enabling.due(Duration::from_secs(10)).expect("due");
        assert_eq!(
            told,
            "the scheduler is not enabled after 10 s, of 300 s that it has; it wrote nothing yet"
        );
        enabling.hear(&output(Source::Scheduler, "one\nlibbpf: \u{1b}two\n\n"));
        enabling.hear(&output(Source::Test, "three\n"));
        assert_eq!(enabling.due(Duration::from_secs(19)), None);
        let told = enabling.due(Duration::from_secs(21)).expect("due");
        assert!(told.ends_with(r"it last wrote `libbpf: \u{1b}two`"), "{told}");
    }

    #[test]
    fn nothing_is_told_before_and_after() {
        let mut enabling = Enabling::new(Duration::from_secs(300));
        for end in [GuestStage::SchedulerEnabled, GuestStage::SchedulerExited, GuestStage::Failed] {
            assert_eq!(enabling.since, None);
            enabling.hear(&stage(GuestStage::SchedulerStarted));
            assert!(enabling.since.is_some());
            enabling.hear(&stage(end));
        }
        assert_eq!(enabling.since, None);
    }
}
