//! The folder of templates.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use super::evict::{Limits, evict};
use super::key::Key;
use super::pages::{PageError, PageIndex, pack, unpack};
use crate::machine::GuestRam;
use crate::machine::slots::{Access, lock_within};

pub(super) const META: &str = "meta.json";
const RAM: &str = "ram";
const STATE: &str = "state";
/// Folders that are not templates (yet, or any more).
pub(super) const TMP_PREFIX: &str = ".tmp-";

/// The templates of a cache.
#[derive(Clone, Debug)]
pub(in crate::machine) struct Store {
    root: PathBuf,
}

/// A template that was found, its state checked.
#[derive(Debug)]
pub(in crate::machine) struct Template {
    dir: PathBuf,
    pages: PageIndex,
    /// The emulator's CPUs and devices.
    pub state: Vec<u8>,
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("template {} is damaged: {why}", .dir.display())]
pub(in crate::machine) struct Damage {
    dir: PathBuf,
    why: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    made_from: Value,
    pages: PageIndex,
    state_xxh3: String,
}

impl Store {
    /// The templates of `cache`, whose folder is made.
    pub(in crate::machine) fn open(cache: &Path) -> io::Result<Self> {
        let root = cache.join("templates");
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    pub(in crate::machine) fn root(&self) -> &Path {
        &self.root
    }

    /// Wait for access to the template of `key`; `None` when `deadline` passed. Held until the file is dropped.
    pub(in crate::machine) fn lock(
        &self,
        key: &Key,
        access: Access,
        deadline: Instant,
    ) -> io::Result<Option<File>> {
        lock_within(&lock_path(&self.root, &key.digits), access, deadline)
    }

    /// The template of `key`, if there is one. Counts as its use. Needs shared access.
    pub(in crate::machine) fn find(&self, key: &Key) -> Result<Option<Template>, Damage> {
        let dir = self.dir(key);
        let damaged = |why: String| Damage { dir: dir.clone(), why };
        let meta = match fs::read(dir.join(META)) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !dir.exists() => return Ok(None),
            Err(e) => return Err(damaged(format!("could not read {META}: {e}"))),
        };
        let meta: Meta = serde_json::from_slice(&meta).map_err(|e| damaged(format!("{META}: {e}")))?;
        let state = fs::read(dir.join(STATE)).map_err(|e| damaged(format!("could not read {STATE}: {e}")))?;
        if format!("{:032x}", xxh3_128(&state)) != meta.state_xxh3 {
            return Err(damaged("the checksum of its state is wrong".into()));
        }
        // Only for the sake of eviction.
        let _ =
            File::options().append(true).open(dir.join(META)).and_then(|f| f.set_modified(SystemTime::now()));
        Ok(Some(Template { dir, pages: meta.pages, state }))
    }

    /// Save a stopped machine as the template of `key`, then evict what exceeds the limits. Needs exclusive access.
    pub(in crate::machine) fn save(&self, key: &Key, ram: &GuestRam, state: &[u8]) -> io::Result<()> {
        let tmp = tempfile::Builder::new().prefix(TMP_PREFIX).tempdir_in(&self.root)?;
        let mut out = BufWriter::with_capacity(1 << 20, File::create_new(tmp.path().join(RAM))?);
        let pages = pack(ram, &mut out)?;
        out.flush()?;
        fs::write(tmp.path().join(STATE), state)?;
        let state_xxh3 = format!("{:032x}", xxh3_128(state));
        let meta = Meta { made_from: key.inputs.clone(), pages, state_xxh3 };
        fs::write(tmp.path().join(META), serde_json::to_vec_pretty(&meta)?)?;
        fs::rename(tmp.path(), self.dir(key))?;
        evict(&self.root, &key.digits, Limits::default(), SystemTime::now());
        Ok(())
    }

    /// Remove the template of `key`, in whatever state it is. Needs exclusive access.
    pub(in crate::machine) fn remove(&self, key: &Key) -> io::Result<()> {
        remove(&self.root, &self.dir(key))
    }

    fn dir(&self, key: &Key) -> PathBuf {
        self.root.join(&key.digits)
    }
}

impl Template {
    /// Put the saved RAM into `ram`, which is all hole, and check it.
    pub(in crate::machine) fn load(&self, ram: &GuestRam) -> Result<(), Damage> {
        let damaged = |why: String| Damage { dir: self.dir.clone(), why };
        let mut file =
            File::open(self.dir.join(RAM)).map_err(|e| damaged(format!("could not read {RAM}: {e}")))?;
        unpack(&self.pages, &mut file, ram).map_err(|e| {
            damaged(match e {
                PageError::Damaged(why) => why,
                PageError::Io(source) => format!("{RAM}: {source}"),
            })
        })
    }
}

/// Remove a template so that no one ever sees a part of it.
pub(super) fn remove(root: &Path, dir: &Path) -> io::Result<()> {
    let tmp = tempfile::Builder::new().prefix(TMP_PREFIX).tempdir_in(root)?;
    match fs::rename(dir, tmp.path().join("removed")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => tmp.close(),
    }
}

/// Few files for any number of keys, so that they need no removal: a lock on a removed file guards nothing.
pub(super) fn lock_path(root: &Path, digits: &str) -> PathBuf {
    root.join(format!("lock-{}", digits.get(..2).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ktstr_replay::memory::Memory;
    use ktstr_replay::units::GuestPhys;

    use super::{META, RAM, STATE, Store};
    use crate::machine::{GuestRam, template::Key, test_spec};

    const NODES: [u64; 1] = [1 << 20];

    fn saved() -> (tempfile::TempDir, Store, Key) {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let key = Key::of(&test_spec(), b"init");
        let ram = GuestRam::new(&NODES).unwrap();
        ram.write(GuestPhys(0x1234), b"guest").unwrap();
        store.save(&key, &ram, b"state").unwrap();
        (cache, store, key)
    }

    #[test]
    fn what_was_saved_is_found() {
        let (_cache, store, key) = saved();
        let template = store.find(&key).unwrap().unwrap();
        assert_eq!(template.state, b"state");
        let ram = GuestRam::new(&NODES).unwrap();
        template.load(&ram).unwrap();
        let mut five = [0; 5];
        ram.read(GuestPhys(0x1234), &mut five).unwrap();
        assert_eq!(&five, b"guest");
        assert!(store.find(&Key::of(&test_spec(), b"other")).unwrap().is_none());
    }

    #[test]
    fn damage_is_found_and_removed() {
        for (file, contents) in [(META, &b"{"[..]), (STATE, b"stat"), (RAM, b"short")] {
            let (_cache, store, key) = saved();
            fs::write(store.dir(&key).join(file), contents).unwrap();
            let damage = match store.find(&key) {
                Ok(found) => found.unwrap().load(&GuestRam::new(&NODES).unwrap()).unwrap_err(),
                Err(damage) => damage,
            };
            assert!(damage.to_string().contains("is damaged"), "{damage}");
            store.remove(&key).unwrap();
            assert!(store.find(&key).unwrap().is_none());
            let left: Vec<_> = fs::read_dir(store.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    #[test]
    fn a_missing_file_is_damage_not_absence() {
        let (_cache, store, key) = saved();
        fs::remove_file(store.dir(&key).join(META)).unwrap();
        assert!(store.find(&key).is_err());
    }
}
