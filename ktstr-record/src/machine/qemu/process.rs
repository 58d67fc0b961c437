//! The emulator's process: it never outlives us.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rustix::fd::BorrowedFd;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::machine::error::{last_words, tail};
use crate::spec::Emulator;

/// What is shown of the emulator's standard error.
const STDERR_TAIL_BYTES: usize = 2000;

/// A child that is killed and reaped when this is dropped, and killed by the kernel when we die first.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stderr: File,
    /// Processes that the host's out-of-memory killer had killed when this one was started.
    oom_kills: Option<u64>,
    /// The thread that is the child's parent in the eyes of the kernel, and what ends it.
    keeper: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Process {
    /// Start `emulator`; the child inherits `fds` under their numbers and writes its output to `stderr`.
    ///
    /// It is in a process group of its own, so that a Ctrl-C reaches us alone and the recording can be finished.
    pub(super) fn spawn(
        emulator: &Emulator,
        args: &[OsString],
        fds: Vec<i32>,
        stderr: File,
    ) -> io::Result<Self> {
        let (program, leading) = emulator
            .command
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the emulator's command is empty"))?;
        let mut command = Command::new(program);
        command
            .args(leading)
            .args(args)
            .envs(emulator.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(stderr.try_clone()?)
            .stderr(stderr.try_clone()?)
            .process_group(0);
        let parent = rustix::process::getpid();
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // We may have died before the line above took effect.
            if getppid() != Some(parent) {
                return Err(io::Error::from(io::ErrorKind::NotConnected));
            }
            for &fd in &fds {
                // SAFETY: the numbers are of files that the caller holds open until `spawn` returns, and nothing
                // closes them between fork and exec.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                fcntl_setfd(fd, FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: the closure only makes system calls (prctl, getppid, fcntl) and neither allocates nor locks, as is
        // required between fork and exec of a program with threads.
        unsafe { command.pre_exec(prepare) };

        // The signal at a parent's death is that of the *thread* that forked, so a thread that lives exactly as long
        // as this value does it.
        let (spawned, result) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let keeper = thread::Builder::new().name("ktstr-qemu".into()).spawn(move || {
            if spawned.send(command.spawn()).is_ok() {
                // Ends with an error when `release` is dropped: nothing is ever sent.
                let _ = released.recv();
            }
        })?;
        let child = result.recv().map_err(|_| io::Error::other("the thread that starts it died"))??;
        Ok(Self { child, stderr, oom_kills: oom_kills(), keeper: Some((release, keeper)) })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it wrote to standard error.
    pub(super) fn stderr_tail(&self) -> String {
        let text = String::from_utf8_lossy(&read_from(&self.stderr, 0).unwrap_or_default()).into_owned();
        tail(&text, STDERR_TAIL_BYTES).to_owned()
    }

    /// Kill and reap it. Idempotent.
    pub(super) fn kill(&mut self) {
        // Both fail only for a child that is reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some((release, keeper)) = self.keeper.take() {
            drop(release);
            let _ = keeper.join();
        }
    }

    /// How it ended, in words: status, whether the host ran out of memory, and its last words. Waits a little for it to end
    /// by itself, once its sockets are closed.
    pub(super) fn end(&mut self) -> String {
        let status = self.status();
        let killed = oom_kills().zip(self.oom_kills).map(|(now, then)| now.saturating_sub(then));
        death(status, killed.unwrap_or(0), &self.stderr_tail())
    }

    fn status(&mut self) -> Option<ExitStatus> {
        for _ in 0..100 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(std::time::Duration::from_millis(1));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a process died, in words; `oom_kills` processes were killed on the host in its lifetime because memory was short.
fn death(status: Option<ExitStatus>, oom_kills: u64, stderr: &str) -> String {
    let mut words: Vec<String> = status.iter().map(ToString::to_string).collect();
    if oom_kills > 0 && status.and_then(|status| status.signal()) == Some(Signal::KILL.as_raw()) {
        words.push(format!(
            "by the host's out-of-memory killer, which has killed {oom_kills} since the machine started; end other programs, \
             run fewer tests at a time or lower memory_mib"
        ));
    }
    words.push(last_words(stderr));
    words.join(", ")
}

/// Processes that the host's out-of-memory killer has killed since it booted; `None` where the kernel does not say.
fn oom_kills() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// A path by which a child that inherits `fd` opens that file anew.
pub(super) fn inherited_path(fd: i32) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// The bytes of `file` from `from` to its end.
pub(super) fn read_from(file: &File, from: u64) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len().saturating_sub(from);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::{death, read_from};
    use crate::machine::ram::memfd;

    #[test]
    fn a_death_is_told_once_and_the_hosts_lack_of_memory_is_named() {
        let killed = ExitStatus::from_raw(9);
        assert_eq!(death(None, 3, ""), "without a word");
        assert_eq!(death(Some(killed), 0, ""), "signal: 9 (SIGKILL), without a word");
        let short = death(Some(killed), 1, "no room");
        assert!(short.starts_with("signal: 9 (SIGKILL), by the host's out-of-memory killer"), "{short}");
        assert!(short.ends_with("saying: no room"), "{short}");
        assert_eq!(death(Some(ExitStatus::from_raw(6)), 1, ""), "signal: 6 (SIGABRT), without a word");
    }

    #[test]
    fn reads_from_an_offset_to_the_end() {
        let mut file = memfd("test", 0).unwrap();
        file.write_all(b"first line\nsecond\nthird\n").unwrap();
        assert_eq!(read_from(&file, 18).unwrap(), b"third\n");
        assert_eq!(read_from(&file, 1000).unwrap(), b"");
    }
}
