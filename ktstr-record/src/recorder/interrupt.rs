//! Ctrl-C and SIGTERM: a recording that is interrupted is closed, not cut off.
//!
//! While a recording is on, the signals set a flag that its loop looks at. At all other times they do what they
//! always do, as a program that only reads traces must end at Ctrl-C.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

struct Signals {
    interrupted: Arc<AtomicBool>,
    idle: Arc<AtomicBool>,
    recordings: Mutex<usize>,
}

static SIGNALS: OnceLock<Signals> = OnceLock::new();

/// Keeps signals from ending the process while it lives.
pub(super) struct Guard {
    signals: &'static Signals,
}

impl Guard {
    /// Take the signals over.
    pub(super) fn new() -> io::Result<Self> {
        let signals = match SIGNALS.get() {
            Some(signals) => signals,
            None => {
                let made = Signals::install()?;
                SIGNALS.get_or_init(|| made)
            }
        };
        let mut recordings = signals.recordings.lock().unwrap_or_else(PoisonError::into_inner);
        *recordings += 1;
        signals.idle.store(false, Ordering::Release);
        Ok(Self { signals })
    }

    /// Whether a signal came. It stays so: a process that was interrupted starts no further recording.
    pub(super) fn interrupted(&self) -> bool {
        self.signals.interrupted.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut recordings = self.signals.recordings.lock().unwrap_or_else(PoisonError::into_inner);
        *recordings -= 1;
        self.signals.idle.store(*recordings == 0, Ordering::Release);
    }
}

impl Signals {
    fn install() -> io::Result<Self> {
        let signals = Self {
            interrupted: Arc::new(AtomicBool::new(false)),
            idle: Arc::new(AtomicBool::new(true)),
            recordings: Mutex::new(0),
        };
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&signals.idle))?;
            flag::register(signal, Arc::clone(&signals.interrupted))?;
        }
        Ok(signals)
    }
}
