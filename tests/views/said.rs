//! What the guest says of itself: the body prints files between two captures.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ktstr::prelude::*;
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::{EventBody, OutputSource};
use serde_json::json;

/// Begins a line of the body's output that has a file: a JSON pair of path and contents.
const MARK: &str = "guest-says ";
/// `O_NONBLOCK`, so that the end of the kernel log is an error and not a wait.
const NON_BLOCKING: i32 = 0o4000;

/// Files by path.
pub(crate) struct Said(BTreeMap<String, String>);

fn say(path: &str, contents: &str) {
    println!("{MARK}{}", json!([path, contents]));
}

fn say_file(path: &Path) {
    // A task may have gone since its directory was listed.
    if let Ok(contents) = fs::read_to_string(path) {
        say(&path.display().to_string(), &contents);
    }
}

/// Print every thread's files, those of sched_ext, cgroups and statistics, and the kernel log.
pub(crate) fn say_all() -> Result<()> {
    for path in ["/proc/stat", "/proc/uptime"] {
        say_file(Path::new(path));
    }
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path().join("task");
        let Ok(threads) = fs::read_dir(&process) else { continue };
        for thread in threads.filter_map(Result::ok) {
            for file in ["stat", "status", "schedstat", "cgroup"] {
                say_file(&thread.path().join(file));
            }
        }
    }
    for file in ["state", "nr_rejected", "hotplug_seq", "enable_seq", "root/ops", "root/events"] {
        say_file(&Path::new("/sys/kernel/sched_ext").join(file));
    }
    for entry in fs::read_dir("/sys/fs/cgroup")? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            for file in ["cgroup.threads", "cpu.weight", "cpu.stat"] {
                say_file(&entry.path().join(file));
            }
        }
    }
    say("/dev/kmsg", &kernel_log()?.join("\n"));
    Ok(())
}

/// The records of `/dev/kmsg`: `level,sequence,microseconds,-;text`.
fn kernel_log() -> Result<Vec<String>> {
    let mut log = OpenOptions::new().read(true).custom_flags(NON_BLOCKING).open("/dev/kmsg")?;
    let mut records = Vec::new();
    let mut record = vec![0; 8192];
    while let Ok(len) = log.read(&mut record) {
        let text = String::from_utf8_lossy(&record[..len]).into_owned();
        // What follows the first line are properties of the device.
        records.extend(text.lines().next().map(str::to_owned));
    }
    Ok(records)
}

impl Said {
    /// What the body of a run printed.
    pub(crate) fn of(trace: &Trace) -> Result<Self> {
        let mut text = Vec::new();
        for event in trace.events() {
            if let EventBody::Output { source: OutputSource::Test, stderr: false, bytes } = event.body {
                text.extend(bytes);
            }
        }
        let text = String::from_utf8(text)?;
        let said = text.lines().filter_map(|line| line.split_once(MARK));
        let pairs = said.map(|(_, pair)| serde_json::from_str::<(String, String)>(pair));
        Ok(Self(pairs.collect::<Result<_, _>>()?))
    }

    /// A file's contents.
    pub(crate) fn file(&self, path: &str) -> Result<&str> {
        self.0
            .get(path)
            .map(|contents| contents.trim_end())
            .with_context(|| format!("the guest did not say {path}"))
    }

    /// `/proc/PID/task/TID` of each thread, by thread id.
    pub(crate) fn threads(&self) -> BTreeMap<i64, String> {
        let dirs = self.0.keys().filter_map(|path| path.strip_suffix("/status"));
        dirs.filter_map(|dir| Some((dir.rsplit_once('/')?.1.parse().ok()?, dir.to_owned()))).collect()
    }

    /// The value of a line `NAME: VALUE` or `NAME VALUE` of a file, a word.
    pub(crate) fn word(&self, path: &str, name: &str) -> Result<&str> {
        let line = self.file(path)?.lines().find_map(|line| line.strip_prefix(name));
        let line = line.with_context(|| format!("{path} has no {name}"))?;
        let word = line.trim_start_matches(':').split_whitespace().next();
        word.with_context(|| format!("{name} of {path} has no value"))
    }

    /// The same, a number.
    pub(crate) fn number(&self, path: &str, name: &str) -> Result<i64> {
        Ok(self.word(path, name)?.parse()?)
    }
}
