//! What the probe found out, kept until the host boots again: one that finds an emulating KVM writes a line to the host's log.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Changes with what the probe does.
const VERSION: u32 = 2;
/// Its folder in the cache, and the file.
const FOLDER: &str = "machine";
const NAME: &str = "kvm-probe.json";

#[derive(Serialize, Deserialize)]
struct Memo<T> {
    version: u32,
    boot_id: String,
    found: T,
}

/// Identifies the host's boot; `None` where the kernel does not tell.
pub(super) fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// What was found since the boot `boot_id`. A file that cannot be read, or is another version's, has nothing.
pub(super) fn recall<T: for<'de> Deserialize<'de>>(cache_dir: &Path, boot_id: &str) -> Option<T> {
    let memo: Memo<T> = serde_json::from_slice(&fs::read(cache_dir.join(FOLDER).join(NAME)).ok()?).ok()?;
    (memo.version == VERSION && memo.boot_id == boot_id).then_some(memo.found)
}

/// Keep what was found. It appears by one rename.
pub(super) fn keep<T: Serialize>(cache_dir: &Path, boot_id: &str, found: T) -> io::Result<()> {
    let folder = cache_dir.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let mut file = tempfile::NamedTempFile::new_in(&folder)?;
    let memo = Memo { version: VERSION, boot_id: boot_id.to_owned(), found };
    file.write_all(&serde_json::to_vec(&memo)?)?;
    file.persist(folder.join(NAME))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{FOLDER, NAME, keep, recall};

    #[test]
    fn what_was_found_is_known_until_the_next_boot() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        assert_eq!(recall::<String>(&cache, "a"), None);
        keep(&cache, "a", "found").unwrap();
        assert_eq!(recall::<String>(&cache, "a").as_deref(), Some("found"));
        assert_eq!(recall::<String>(&cache, "b"), None);
        keep(&cache, "b", "more").unwrap();
        assert_eq!(recall::<String>(&cache, "b").as_deref(), Some("more"));
        fs::write(cache.join(FOLDER).join(NAME), r#"{"version":0,"boot_id":"b","found":"old"}"#).unwrap();
        assert_eq!(recall::<String>(&cache, "b"), None);
        fs::write(cache.join(FOLDER).join(NAME), "no JSON").unwrap();
        assert_eq!(recall::<String>(&cache, "b"), None);
        assert_eq!(fs::read_dir(cache.join(FOLDER)).unwrap().count(), 1, "a file was left over");
    }
}
