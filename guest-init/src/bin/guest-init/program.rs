//! A program that init started: the scheduler or the test binary.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use guest_init::message::{Program, Source};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open, wait,
};

use crate::Failure;
use crate::interpreter;
use crate::relay::Pipe;

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

    /// Signal all of its group; a group that is gone is no error.
    pub fn signal(&self, signal: Signal) {
        let _gone = kill_process_group(self.pid, signal);
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
    let missing = interpreter::of(Path::new(path)).filter(|interpreter| !Path::new(interpreter).exists());
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
