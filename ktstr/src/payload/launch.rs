//! Where the guest has a payload, and what starts it there.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::definition::PayloadDef;

/// The folder of the guest that has the files and folders of `include_files`, and in which payloads are started.
pub const FILES: &str = "/ktstr/files";
/// The folder of the guest that says what starts each payload.
const LAUNCHES: &str = "/ktstr/payloads";

/// What starts a payload in the guest. The host writes it, where the program is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The program that is executed: the payload's, or the loader of the package that has it.
    pub program: String,
    /// Arguments that come before the payload's.
    pub args: Vec<String>,
    /// Its whole environment, `KEY=VALUE`.
    pub env: Vec<String>,
    /// The file of the package that the program is from; empty: none.
    #[serde(default)]
    pub package: String,
}

/// Why it is not known how to start a payload.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Nobody has packed it.
    #[error("payload `{name}` is not in the guest: name it in the test's `payload` or `workloads`")]
    NotPacked {
        /// The payload.
        name: &'static str,
    },
    /// What says how cannot be read.
    #[error("could not read {}: {why}", path.display())]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

impl Launch {
    /// Where the guest has that of a payload.
    pub fn path(name: &str) -> String {
        format!("{LAUNCHES}/{name}.json")
    }

    /// That of a payload; `root`: where the guest's file system begins.
    ///
    /// # Errors
    /// A payload that was not packed.
    pub fn read(root: &Path, def: &PayloadDef) -> Result<Self, LaunchError> {
        let path = root.join(Self::path(def.name).trim_start_matches('/'));
        let unreadable = |why: String| LaunchError::Unreadable { path: path.clone(), why };
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(LaunchError::NotPacked { name: def.name })
            }
            Err(error) => Err(unreadable(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::payload::tests::{SHELL, install};

    #[test]
    fn what_the_host_wrote_is_read_and_what_it_did_not_is_told() {
        let dir = TempDir::new().expect("a folder");
        let error = Launch::read(dir.path(), &SHELL).expect_err("nothing").to_string();
        assert!(error.contains("`shell` is not in the guest") && error.contains("`workloads`"), "{error}");
        let written = install(dir.path());
        assert_eq!(Launch::read(dir.path(), &SHELL).expect("read"), written);
        fs::write(dir.path().join("ktstr/payloads/shell.json"), "{").expect("written");
        assert!(matches!(Launch::read(dir.path(), &SHELL), Err(LaunchError::Unreadable { .. })));
    }
}
