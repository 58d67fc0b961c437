//! Saving and restoring the state of CPUs and devices.
//!
//! A migration to or from a file, with the capability `x-ignore-shared`: RAM is shared with us and stays out of it,
//! so that the state is a third of a megabyte.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::qmp::Qmp;
use crate::machine::MachineError;
use crate::machine::files::inherited_path;

/// Far longer than a state of this size takes (measured: 6 ms).
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(20);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(1);

/// Write the state of a stopped VM to `state`, which the emulator has inherited. The VM can go on afterwards.
pub(super) fn save(qmp: &mut Qmp, state: &File) -> Result<(), MachineError> {
    migrate(qmp, "migrate", state)
}

/// Load `state`, which the emulator has inherited, into a VM that was started for it. It stays stopped.
pub(super) fn load(qmp: &mut Qmp, state: &File) -> Result<(), MachineError> {
    migrate(qmp, "migrate-incoming", state)
}

fn migrate(qmp: &mut Qmp, command: &str, state: &File) -> Result<(), MachineError> {
    let capability = json!([{ "capability": "x-ignore-shared", "state": true }]);
    qmp.command("migrate-set-capabilities", json!({ "capabilities": capability }), COMMAND_TIMEOUT)?;
    let uri = format!("file:{}", inherited_path(state.as_raw_fd()).display());
    qmp.command(command, json!({ "uri": uri }), COMMAND_TIMEOUT)?;
    let deadline = Instant::now() + MIGRATION_TIMEOUT;
    loop {
        let answer = qmp.command("query-migrate", json!({}), COMMAND_TIMEOUT)?;
        match answer.get("status").and_then(Value::as_str) {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let why = answer.get("error-desc").map_or_else(|| answer.to_string(), Value::to_string);
                return Err(MachineError::Refused { what: command.to_owned(), why });
            }
            _ if Instant::now() >= deadline => {
                return Err(MachineError::Silent { what: command.to_owned(), after: MIGRATION_TIMEOUT });
            }
            _ => thread::sleep(POLL),
        }
    }
}
