//! A program that init started: the scheduler or the test binary, with its output, and why it could not be started.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use guest_init::message::{Program, Source, ToHost};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open, wait,
};

use crate::Failure;
use crate::link::Link;

/// A process in its own group.
pub struct Running {
    /// Which of the two.
    pub source: Source,
    pid: Pid,
    /// Readable when the process has ended.
    pub pidfd: OwnedFd,
    /// Standard output and standard error.
    pub pipes: [Pipe; 2],
    /// How it ended, once it has, and when that was seen.
    pub ended: Option<(WaitStatus, Instant)>,
}

impl Running {
    /// Start a program. It begins in init's working folder and has init's inheritable descriptors.
    pub fn start(source: Source, program: &Program) -> Result<Self, Failure> {
        let mut command = Command::new(&program.path);
        command
            .args(&program.args)
            .env_clear()
            .envs(program.env.iter().filter_map(|variable| variable.split_once('=')))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| explain(&program.path, &error))?;
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("pidfd_open: {error}"))?;
        let pipes = [
            Pipe::new(source, false, child.stdout.take().map(OwnedFd::from)),
            Pipe::new(source, true, child.stderr.take().map(OwnedFd::from)),
        ];
        Ok(Self { source, pid, pidfd, pipes, ended: None })
    }

    /// Whether the process still runs.
    pub fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    /// Signal all of its group; it is not an error if the group has ended.
    pub fn signal(&self, signal: Signal) {
        let _gone = kill_process_group(self.pid, signal);
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// How it ended, for people.
    pub fn how_it_ended(&self) -> String {
        self.ended.map_or_else(|| "still running".into(), |(status, _)| describe(status))
    }
}

/// Collect every process that has ended, orphans that fell to PID 1 included.
pub fn reap(running: &mut [&mut Option<Running>]) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        for program in
            running.iter_mut().filter_map(|slot| slot.as_mut()).filter(|program| program.pid == pid)
        {
            program.ended = Some((status, Instant::now()));
        }
    }
}

/// What an exec's error means. `ENOENT` is the unclear one: it also stands for a missing interpreter.
fn explain(path: &str, error: &std::io::Error) -> Failure {
    let missing = interpreter_of(Path::new(path)).filter(|interpreter| !Path::new(interpreter).exists());
    match missing {
        Some(interpreter) => {
            format!(
                "starting {path}: its interpreter {interpreter} is not in the guest; was it packed with the job?"
            )
        }
        None if !fs::exists(path).unwrap_or(false) => {
            format!("starting {path}: there is no such file in the guest; was it packed with the job?")
        }
        None => format!("starting {path}: {error}"),
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => format!("signal {number}{}", signal_name(number)),
        (None, None) => format!("{status:?}"),
    }
}

fn signal_name(number: i32) -> &'static str {
    match number {
        libc::SIGINT => " (SIGINT)",
        libc::SIGILL => " (SIGILL)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGFPE => " (SIGFPE)",
        libc::SIGKILL => " (SIGKILL)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGSYS => " (SIGSYS)",
        libc::SIGTERM => " (SIGTERM)",
        libc::SIGTRAP => " (SIGTRAP)",
        _ => "",
    }
}

/// The dynamic loader that an ELF names in `PT_INTERP`, or the interpreter of a `#!` line.
fn interpreter_of(program: &Path) -> Option<String> {
    parse_interpreter(&fs::read(program).ok()?)
}

fn parse_interpreter(bytes: &[u8]) -> Option<String> {
    if let Some(script) = bytes.strip_prefix(b"#!") {
        let line = script.split(|&byte| byte == b'\n').next()?;
        let word = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
        return String::from_utf8(word.to_vec()).ok();
    }
    // ELF64 little-endian; places of the fields from elf(5).
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(field(bytes, 0x20)?)).ok()?;
    let entry = usize::from(u16::from_le_bytes(field(bytes, 0x36)?));
    let count = usize::from(u16::from_le_bytes(field(bytes, 0x38)?));
    (0..count).find_map(|i| {
        let header = bytes.get(table.checked_add(i * entry)?..)?;
        let is_interpreter = u32::from_le_bytes(field(header, 0)?) == libc::PT_INTERP;
        let at = usize::try_from(u64::from_le_bytes(field(header, 8)?)).ok()?;
        let length = usize::try_from(u64::from_le_bytes(field(header, 32)?)).ok()?;
        let path = bytes.get(at..at.checked_add(length)?).filter(|_| is_interpreter)?;
        Some(String::from_utf8_lossy(path).trim_end_matches('\0').to_owned())
    })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Most bytes of output in one frame.
const PIECE_BYTES: usize = 16 << 10;

/// The reading end of a program's standard output or standard error.
pub struct Pipe {
    source: Source,
    stderr: bool,
    end: Option<File>,
}

impl Pipe {
    /// A pipe; none at all counts as closed.
    pub fn new(source: Source, stderr: bool, end: Option<OwnedFd>) -> Self {
        Self { source, stderr, end: end.map(File::from) }
    }

    /// The descriptor to poll, while the other end may still be written.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// Pass on one piece. Only to be called when poll says that there is something: it blocks otherwise.
    pub fn relay(&mut self, link: &mut Link) {
        let mut piece = [0; PIECE_BYTES];
        let Some(end) = &mut self.end else { return };
        match end.read(&mut piece) {
            Ok(0) | Err(_) => self.end = None,
            Ok(length) => {
                let bytes = piece[..length].to_vec();
                link.send(&ToHost::Output { source: self.source, stderr: self.stderr, bytes });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_loader_of_this_very_test() {
        let me = std::env::current_exe().expect("known");
        let loader = interpreter_of(&me).expect("a test binary is linked dynamically");
        assert!(loader.contains("/ld-") && Path::new(&loader).exists(), "{loader}");
    }

    #[test]
    fn reads_a_script_and_refuses_the_rest() {
        assert_eq!(parse_interpreter(b"#! /bin/sh -e\nexit"), Some("/bin/sh".into()));
        assert_eq!(parse_interpreter(b"#!"), None);
        assert_eq!(parse_interpreter(b"\x7fELF\x02\x01"), None);
        assert_eq!(parse_interpreter(b""), None);
    }

    #[test]
    fn a_truncated_program_has_no_interpreter() {
        let me = fs::read(std::env::current_exe().expect("known")).expect("readable");
        for length in (0..1024).step_by(7) {
            let _any = parse_interpreter(&me[..length]);
        }
    }
}
