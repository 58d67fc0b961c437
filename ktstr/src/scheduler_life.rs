//! Whether the scheduler under test still schedules.

use std::fs;
use std::path::PathBuf;

/// Watches `/sys/kernel/sched_ext/state`. Source: `kernel/sched/ext.c`, `scx_attr_state_show`.
#[derive(Clone, Debug)]
pub struct SchedulerLife(Option<Watched>);

#[derive(Clone, Debug)]
struct Watched {
    name: String,
    state_file: PathBuf,
}

/// The scheduler under test no longer schedules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scheduler `{name}` is gone: {state}")]
pub struct SchedulerDied {
    /// Its name.
    pub name: String,
    /// What the kernel says.
    pub state: String,
}

impl SchedulerLife {
    /// The file in which the kernel shows the state.
    pub const STATE_FILE: &str = "/sys/kernel/sched_ext/state";

    /// There is no scheduler under test.
    pub fn none() -> Self {
        Self(None)
    }

    /// Watch the scheduler `name`, whose state is in `state_file`.
    pub fn watched(name: &str, state_file: PathBuf) -> Self {
        Self(Some(Watched { name: name.to_owned(), state_file }))
    }

    /// Whether the scheduler is enabled.
    ///
    /// # Errors
    /// [`SchedulerDied`] when the state is anything but `enabled`.
    pub fn check(&self) -> Result<(), SchedulerDied> {
        let Some(Watched { name, state_file }) = &self.0 else {
            return Ok(());
        };
        let state = match fs::read_to_string(state_file) {
            Ok(state) if state.trim() == "enabled" => return Ok(()),
            Ok(state) => format!("sched_ext is `{}`, not `enabled`", state.trim()),
            Err(error) => format!("{} cannot be read: {error}", state_file.display()),
        };
        Err(SchedulerDied { name: name.clone(), state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_enabled_is_alive() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let file = dir.path().join("state");
        let life = SchedulerLife::watched("demo", file.clone());
        assert!(life.check().is_err(), "no file");
        for (state, alive) in
            [("enabled\n", true), ("disabling\n", false), ("disabled\n", false), ("", false)]
        {
            fs::write(&file, state).expect("a file");
            assert_eq!(life.check().is_ok(), alive, "{state}");
        }
        assert_eq!(SchedulerLife::none().check(), Ok(()));
    }
}
