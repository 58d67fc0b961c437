//! Templates: machines that were saved, when init was ready for its first job or when the scheduler of a job was
//! enabled and nothing else of it had been sent.
//!
//! ```text
//! <cache>/templates/
//!   lock-XX          guards the templates whose keys begin with these digits: shared to restore, exclusive to save
//!   .tmp-*           a template being written, or removed
//!   <key>/
//!     meta.json      what it was made from, where its pages belong, checksums; its mtime is the time of last use
//!     ram            the pages that are not zero, one after another
//!     state          the CPUs and devices
//! ```
//!
//! A template appears by one rename, so that it is whole or absent. It holds nothing of any test: tests arrive after the
//! restore. All of its restores share what the boot had drawn at random (KASLR's placement, the kernel's entropy, to
//! which init adds the job's seed).

mod pages;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use guest_init::layout::PROTOCOL_VERSION;
use ktstr_replay::units::GuestNs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::ram::GuestRam;
use super::slots::{Access, lock_within, open, try_lock};
use pages::{PageError, PageIndex, pack, unpack};

/// Version of the files in a template.
const FORMAT: u32 = 4;
const META: &str = "meta.json";
const RAM: &str = "ram";
const STATE: &str = "state";
/// Folders that are not templates (yet, or any more).
const TMP_PREFIX: &str = ".tmp-";

/// The name of a template: the hash of everything that its contents depend on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    /// 32 hex digits.
    digits: String,
    /// What was hashed, kept in the template for people.
    inputs: Value,
}

impl Key {
    /// Of a machine with this initramfs on this host. `machine` is what the kind of machine says that it depends on.
    pub(super) fn of(machine: Value, initramfs: &[u8]) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self::on_host(machine, initramfs, &host_cpu(&cpuinfo))
    }

    fn on_host(machine: Value, initramfs: &[u8], host_cpu: &str) -> Self {
        let inputs = json!({
            "format": FORMAT,
            "protocol": PROTOCOL_VERSION,
            "machine": machine,
            "initramfs_xxh3": format!("{:032x}", xxh3_128(initramfs)),
            "host_cpu": host_cpu,
        });
        Self::of_inputs(inputs)
    }

    /// Of the same machine with the scheduler of this digest enabled.
    pub(super) fn with_scheduler(&self, digest: &str) -> Self {
        Self::of_inputs(json!({ "machine_at_ready": self.inputs, "scheduler_xxh3": digest }))
    }

    fn of_inputs(inputs: Value) -> Self {
        Self { digits: format!("{:032x}", xxh3_128(inputs.to_string().as_bytes())), inputs }
    }
}

/// The host's CPU model.
///
/// An emulated TSC runs at the rate of the host's, which the kernel measured while it booted, even where what else the
/// guest's CPU offers does not depend on the host.
fn host_cpu(cpuinfo: &str) -> String {
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    let wanted = ["vendor_id", "cpu family", "model", "model name", "stepping"];
    let value = |key: &str| {
        let line = first.lines().find(|line| line.split(':').next().is_some_and(|k| k.trim() == key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    wanted.iter().filter_map(|key| value(key)).collect::<Vec<_>>().join("/")
}

/// The templates of a cache.
#[derive(Clone, Debug)]
pub(super) struct Store {
    root: PathBuf,
}

/// A template that was found, its state checked.
#[derive(Debug)]
pub(super) struct Template {
    dir: PathBuf,
    pages: PageIndex,
    /// The guest's time when it was saved.
    pub guest_ns: GuestNs,
    /// CPUs and devices, as the kind of machine saved them.
    pub state: Vec<u8>,
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("template {} is damaged: {why}", .dir.display())]
pub(super) struct Damage {
    dir: PathBuf,
    why: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    made_from: Value,
    guest_ns: u64,
    pages: PageIndex,
    state_xxh3: String,
}

impl Store {
    /// The templates of `cache`, whose folder is made.
    pub(super) fn open(cache: &Path) -> io::Result<Self> {
        let root = cache.join("templates");
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Wait for access to the template of `key`; `None` when `deadline` passed or `stop` said so. Held until the file is dropped. `tell` is
    /// called if it takes a while.
    pub(super) fn lock(
        &self,
        key: &Key,
        access: Access,
        deadline: Instant,
        tell: impl FnOnce(),
        stop: fn() -> bool,
    ) -> io::Result<Option<File>> {
        lock_within(&lock_path(&self.root, &key.digits), access, deadline, tell, stop)
    }

    /// The template of `key`, if there is one. Counts as its use. Needs shared access.
    pub(super) fn find(&self, key: &Key) -> Result<Option<Template>, Damage> {
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
        // Only eviction needs it.
        let _ =
            File::options().append(true).open(dir.join(META)).and_then(|f| f.set_modified(SystemTime::now()));
        Ok(Some(Template { dir, guest_ns: GuestNs(meta.guest_ns), pages: meta.pages, state }))
    }

    /// Save a machine that is stopped at this time of its guest as the template of `key`, then evict what exceeds the
    /// limits. Needs exclusive access.
    pub(super) fn save(&self, key: &Key, ram: &GuestRam, state: &[u8], guest_ns: GuestNs) -> io::Result<()> {
        let tmp = tempfile::Builder::new().prefix(TMP_PREFIX).tempdir_in(&self.root)?;
        let mut out = BufWriter::with_capacity(1 << 20, File::create_new(tmp.path().join(RAM))?);
        let pages = pack(ram, &mut out)?;
        out.flush()?;
        fs::write(tmp.path().join(STATE), state)?;
        let state_xxh3 = format!("{:032x}", xxh3_128(state));
        let meta = Meta { made_from: key.inputs.clone(), guest_ns: guest_ns.0, pages, state_xxh3 };
        fs::write(tmp.path().join(META), serde_json::to_vec_pretty(&meta)?)?;
        fs::rename(tmp.path(), self.dir(key))?;
        evict(&self.root, &key.digits, Limits::default(), SystemTime::now());
        Ok(())
    }

    /// Remove the template of `key`, in whatever state it is. Needs exclusive access.
    pub(super) fn remove(&self, key: &Key) -> io::Result<()> {
        remove(&self.root, &self.dir(key))
    }

    fn dir(&self, key: &Key) -> PathBuf {
        self.root.join(&key.digits)
    }
}

impl Template {
    /// That it cannot be used, and why.
    pub(super) fn damaged(&self, why: String) -> Damage {
        Damage { dir: self.dir.clone(), why }
    }

    /// Put the saved RAM into `ram`, which is all hole, and check it.
    pub(super) fn load(&self, ram: &GuestRam) -> Result<(), Damage> {
        let mut file =
            File::open(self.dir.join(RAM)).map_err(|e| self.damaged(format!("could not read {RAM}: {e}")))?;
        unpack(&self.pages, &mut file, ram).map_err(|e| {
            self.damaged(match e {
                PageError::Damaged(why) => why,
                PageError::Io(source) => format!("{RAM}: {source}"),
            })
        })
    }
}

/// Remove a template so that no one ever sees a part of it.
fn remove(root: &Path, dir: &Path) -> io::Result<()> {
    let tmp = tempfile::Builder::new().prefix(TMP_PREFIX).tempdir_in(root)?;
    match fs::rename(dir, tmp.path().join("removed")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => tmp.close(),
    }
}

/// Few files for any number of keys, so that they need no removal: a lock on a removed file guards nothing.
fn lock_path(root: &Path, digits: &str) -> PathBuf {
    root.join(format!("lock-{}", digits.get(..2).unwrap_or_default()))
}

/// What may stay.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// All templates together, in bytes.
    total_bytes: u64,
    /// Since the last use.
    age: Duration,
    /// How long after its last change an unfinished template is taken for abandoned.
    abandoned: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { total_bytes: 4 << 30, age: 14 * day, abandoned: Duration::from_secs(3600) }
    }
}

/// Remove templates other than `keep` that were not used for too long, and then the longest unused ones while all
/// together are too large. A template that is in use, or that cannot be removed, stays.
fn evict(root: &Path, keep: &str, limits: Limits, now: SystemTime) {
    let mut templates = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if !path.is_dir() {
            continue;
        }
        if name.starts_with(TMP_PREFIX) {
            if unused_for(&path, now) > limits.abandoned {
                // Another process may remove it first, which serves as well.
                let _ = fs::remove_dir_all(&path);
            }
            continue;
        }
        let unused = unused_for(&path.join(META), now).max(Duration::ZERO);
        templates.push(Found { bytes: bytes_in(&path), unused, path, name });
    }
    let mut total: u64 = templates.iter().map(|t| t.bytes).sum();
    templates.sort_by_key(|t| std::cmp::Reverse(t.unused));
    for template in templates.iter().filter(|t| t.name != keep) {
        if (template.unused > limits.age || total > limits.total_bytes) && remove_unused(root, template) {
            total -= template.bytes;
        }
    }
}

struct Found {
    path: PathBuf,
    name: String,
    bytes: u64,
    unused: Duration,
}

fn remove_unused(root: &Path, template: &Found) -> bool {
    let Ok(lock) = open(&lock_path(root, &template.name)) else { return false };
    matches!(try_lock(&lock, Access::Exclusive), Ok(true)) && remove(root, &template.path).is_ok()
}

/// Time since the file at `path` was changed; the longest duration there is if the file does not exist.
fn unused_for(path: &Path, now: SystemTime) -> Duration {
    match fs::metadata(path).and_then(|m| m.modified()) {
        Ok(modified) => now.duration_since(modified).unwrap_or_default(),
        Err(_) => Duration::MAX,
    }
}

fn bytes_in(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
}

#[cfg(test)]
mod tests {
    use ktstr_replay::memory::Memory;
    use ktstr_replay::units::GuestPhys;

    use super::*;

    const NODES: [u64; 1] = [1 << 20];

    fn saved() -> (tempfile::TempDir, Store, Key) {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let key = Key::of(json!({}), b"init");
        let ram = GuestRam::new(&NODES).unwrap();
        ram.write(GuestPhys(0x1234), b"guest").unwrap();
        store.save(&key, &ram, b"state", GuestNs(7)).unwrap();
        (cache, store, key)
    }

    #[test]
    fn what_was_saved_is_found() {
        let (_cache, store, key) = saved();
        let template = store.find(&key).unwrap().unwrap();
        assert_eq!((template.state.as_slice(), template.guest_ns), (&b"state"[..], GuestNs(7)));
        let ram = GuestRam::new(&NODES).unwrap();
        template.load(&ram).unwrap();
        let mut five = [0; 5];
        ram.read(GuestPhys(0x1234), &mut five).unwrap();
        assert_eq!(&five, b"guest");
        assert!(store.find(&Key::of(json!({}), b"other")).unwrap().is_none());
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

    #[test]
    fn every_input_changes_the_key() {
        let key = |machine, init: &[u8], cpu| Key::on_host(json!(machine), init, cpu).digits;
        let base = key("machine", b"init", "cpu");
        assert_eq!(base, key("machine", b"init", "cpu"));
        for other in
            [key("other", b"init", "cpu"), key("machine", b"other", "cpu"), key("machine", b"init", "other")]
        {
            assert_ne!(other, base);
        }
        let machine = Key::on_host(json!("machine"), b"init", "cpu");
        let (one, other) = (machine.with_scheduler("01"), machine.with_scheduler("02"));
        assert!(one != other && one.digits != base && one == machine.with_scheduler("01"));
        assert_ne!(Key::on_host(json!("other"), b"init", "cpu").with_scheduler("01"), one);
    }

    #[test]
    fn the_cpu_is_its_model_not_its_clock() {
        let info = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: EPYC\n\
                    stepping\t: 1\ncpu MHz\t\t: 2300.1\n\nprocessor\t: 1\n";
        assert_eq!(host_cpu(info), "AuthenticAMD/25/1/EPYC/1");
        assert_eq!(host_cpu(""), "");
    }

    const HOUR: Duration = Duration::from_secs(3600);
    const LIMITS: Limits = Limits { total_bytes: 2500, age: Duration::from_secs(48 * 3600), abandoned: HOUR };

    /// A folder with a thousand bytes, last used so many hours ago.
    fn template(root: &Path, name: &str, hours: u32, now: SystemTime) {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("meta.json"), vec![0; 1000]).unwrap();
        let file = File::options().append(true).open(root.join(name).join("meta.json")).unwrap();
        file.set_modified(now - HOUR * hours).unwrap();
        File::open(root.join(name)).unwrap().set_modified(now - HOUR * hours).unwrap();
    }

    fn left(root: &Path) -> Vec<String> {
        let names = fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|n| !n.starts_with("lock-")).collect();
        names.sort();
        names
    }

    #[test]
    fn old_ones_go_then_the_longest_unused() {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        for (name, hours) in [("aa", 50), ("bb", 3), ("cc", 2), ("dd", 1), ("ee", 0)] {
            template(dir.path(), name, hours, now);
        }
        evict(dir.path(), "ee", LIMITS, now);
        assert_eq!(left(dir.path()), ["dd", "ee"]);
    }

    #[test]
    fn what_is_kept_or_in_use_stays() {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        for name in ["aa", "bb", "cc"] {
            template(dir.path(), name, 99, now);
        }
        let in_use = open(&lock_path(dir.path(), "bb")).unwrap();
        in_use.lock_shared().unwrap();
        evict(dir.path(), "aa", LIMITS, now);
        assert_eq!(left(dir.path()), ["aa", "bb"]);
    }

    #[test]
    fn only_abandoned_leftovers_go() {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        template(dir.path(), ".tmp-old", 2, now);
        template(dir.path(), ".tmp-new", 0, now);
        evict(dir.path(), "", LIMITS, now);
        assert_eq!(left(dir.path()), [".tmp-new"]);
    }
}
