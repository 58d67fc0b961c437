//! Telling a person that long work moves on: a bar on a terminal, plain lines elsewhere.

use std::collections::BTreeSet;
use std::env;
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::error::Mib;

/// Variable that `cargo ktstr test` sets for its tests, when it has said what is known of the host.
pub const SAY: &str = "KTSTR_SAY";

/// How a person is told of long work. All of it goes to stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A moving bar that is erased when its step ends.
    Bar,
    /// A line when a step ends, and before that one when a step of known size begins.
    Lines,
    /// Nothing.
    Silent,
}

impl Progress {
    /// A bar where stderr is a terminal, else plain lines.
    pub fn stderr() -> Self {
        if stderr().is_terminal() { Progress::Bar } else { Progress::Lines }
    }

    /// Says one thing.
    pub(crate) fn note(self, text: &str) {
        if self != Progress::Silent {
            eprintln!("ktstr: {text}");
        }
    }

    /// Says one thing once: not again in this process, and not in a test of a run that has said it.
    pub(crate) fn note_once(self, text: &str) {
        static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let is_new = TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned());
        if is_new && env::var_os(SAY).is_none() {
            self.note(text);
        }
    }

    /// Begins a step of `total_bytes`, or of unknown size.
    pub(crate) fn step(self, label: impl Into<String>, total_bytes: Option<u64>) -> Step {
        let label = label.into();
        if let (Progress::Lines, Some(bytes)) = (self, total_bytes) {
            self.note(&format!("{label}, {} ...", Mib(bytes)));
        }
        let bar = (self == Progress::Bar).then(|| {
            let bar = ProgressBar::with_draw_target(total_bytes, ProgressDrawTarget::stderr());
            let template = match total_bytes {
                Some(_) => "ktstr: {msg} [{bar:30}] {bytes}/{total_bytes}",
                None => "ktstr: {spinner} {msg} {elapsed}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(label.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Step { progress: self, label, bar, began: Instant::now() }
    }
}

/// A step that is under way. Dropped without [`Step::done`], it has failed and says nothing: the
/// error does.
#[derive(Debug)]
pub(crate) struct Step {
    progress: Progress,
    label: String,
    bar: Option<ProgressBar>,
    began: Instant,
}

impl Step {
    /// Says how many bytes are there by now.
    pub(crate) fn at_bytes(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        }
    }

    /// Says what it is at, where a bar shows it.
    pub(crate) fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Ends the step with one line that says how long it took.
    pub(crate) fn done(self) {
        let took = self.began.elapsed();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.progress.note(&format!("{} ({:.1} s)", self.label, took.as_secs_f64()));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
