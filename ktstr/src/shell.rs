//! A shell for a person in the place of a test's body: busybox, on a terminal of the guest or on pipes. What is typed comes from the
//! host by way of guest-init, what it writes goes to this process's output, which the trace has.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use guest_init::message::{SHELL_TERMINAL, ShellInput};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{MountFlags, mount};
use rustix::net::{RecvFlags, recv};
use rustix::process::setsid;

use crate::channel::Channel;
use crate::payload::Launch;

/// The package of the distribution that has it.
pub const PACKAGE: &str = "busybox-static";
/// Its program.
pub const PROGRAM: &str = "busybox";
/// What the guest calls it, among the programs that tests start.
pub const NAME: &str = "ktstr-shell";
/// Folder of the guest with a link for each of its commands.
const COMMANDS: &str = "/ktstr/shell";
/// Where the folder of terminals is.
const TERMINALS: &str = "/dev/pts";
/// Most bytes of output that are passed on at once.
const PIECE_BYTES: usize = 4096;
/// How often it is looked whether the shell has ended.
const LOOK: Duration = Duration::from_millis(50);
/// Most pieces that are passed on after the shell's end: more than a terminal holds.
const MOST_PIECES_AFTER: usize = 64;
/// Largest packet of input.
const PACKET_BYTES: usize = 64 << 10;

/// Run a shell until it ends: by `exit`, or at the end of its input. `kind` says what its input is.
///
/// # Errors
/// A shell that is not in the guest or cannot be started.
pub fn run(kind: &str, channel: &Channel) -> Result<()> {
    let text = fs::read(Launch::path(NAME)).context("the shell was not packed")?;
    let launch: Launch = serde_json::from_slice(&text)?;
    fs::create_dir_all(COMMANDS).with_context(|| format!("making {COMMANDS}"))?;
    let installed = Command::new(&launch.program).args(["--install", "-s", COMMANDS]).status();
    if !installed.with_context(|| format!("starting {}", launch.program))?.success() {
        bail!("{} could not make links of its commands in {COMMANDS}", launch.program);
    }
    let mut command = Command::new(&launch.program);
    command
        .arg("sh")
        .env("PATH", format!("{COMMANDS}:/usr/sbin:/usr/bin:/sbin:/bin"))
        .env("PS1", "guest:\\w# ");
    let input = channel.input()?;
    match kind {
        SHELL_TERMINAL => on_terminal(command, input),
        _ => on_pipes(command, input),
    }
}

/// Input of a pipe or a file: no prompt, no echo, and the end of it ends the shell.
fn on_pipes(mut command: Command, input: OwnedFd) -> Result<()> {
    let mut shell = command.stdin(Stdio::piped()).spawn().context("starting the shell")?;
    let mut stdin = shell.stdin.take();
    thread::spawn(move || {
        while let Some(said) = next(&input) {
            let goes_on = match said {
                ShellInput::Bytes(bytes) => stdin.as_mut().is_some_and(|pipe| pipe.write_all(&bytes).is_ok()),
                ShellInput::Size { .. } => true,
                ShellInput::End => false,
            };
            if !goes_on {
                stdin = None;
            }
        }
    });
    wait(shell)
}

/// A terminal of the guest, which makes signals of Ctrl-C and Ctrl-Z.
fn on_terminal(mut command: Command, input: OwnedFd) -> Result<()> {
    if !fs::exists("/dev/pts/ptmx").unwrap_or(false) {
        fs::create_dir_all(TERMINALS).with_context(|| format!("making {TERMINALS}"))?;
        mount("devpts", TERMINALS, "devpts", MountFlags::empty(), None)
            .with_context(|| format!("mounting devpts at {TERMINALS}"))?;
    }
    let (mut ours, theirs) = terminal().context("opening a terminal")?;
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
    let prepare = || -> io::Result<()> {
        setsid()?;
        // SAFETY: the request takes a number.
        let has_terminal = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
        if has_terminal < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure only makes two system calls, and neither allocates nor locks, as is required between fork and exec of a
    // program with threads.
    unsafe { command.pre_exec(prepare) };
    let mut shell = command.spawn().context("starting the shell")?;
    // Its ends of the terminal are closed, so that reading ours ends with the shell.
    drop(command);
    let mut typed = ours.try_clone()?;
    thread::spawn(move || {
        while let Some(said) = next(&input) {
            match said {
                // It ends with the shell.
                ShellInput::Bytes(bytes) => drop(typed.write_all(&bytes)),
                // As Ctrl-D does.
                ShellInput::End => drop(typed.write_all(&[4])),
                ShellInput::Size { rows, columns } => set_size(&typed, rows, columns),
            }
        }
    });
    relay(&mut ours, &mut shell)?;
    wait(shell)
}

/// Pass on what is written to the terminal until the shell has ended and that is read. The terminal stays open after it where a command
/// still runs in the background.
fn relay(written: &mut File, shell: &mut Child) -> Result<()> {
    let mut piece = [0; PIECE_BYTES];
    let mut pieces_after = 0;
    while pieces_after < MOST_PIECES_AFTER {
        // Looked at first: what it wrote before its end is then there.
        let has_ended = shell.try_wait().context("waiting for the shell")?.is_some();
        if !is_ready(written, if has_ended { Duration::ZERO } else { LOOK }) {
            if has_ended {
                break;
            }
            continue;
        }
        pieces_after += usize::from(has_ended);
        // The last end of the other side being closed is EIO.
        let Ok(length @ 1..) = written.read(&mut piece) else { break };
        let mut stdout = io::stdout().lock();
        stdout.write_all(&piece[..length]).and_then(|()| stdout.flush())?;
    }
    Ok(())
}

fn is_ready(terminal: &File, timeout: Duration) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
    let mut fds = [PollFd::new(terminal, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

fn wait(mut shell: Child) -> Result<()> {
    // Its exit code is that of the last command that a person ran, and says nothing of the run.
    shell.wait().map(drop).context("waiting for the shell")
}

/// The next input; `None` once init is gone.
fn next(input: &OwnedFd) -> Option<ShellInput> {
    let mut packet = vec![0; PACKET_BYTES];
    loop {
        match recv(input, &mut packet[..], RecvFlags::empty()) {
            Ok((_, 0)) => return None,
            // What is no input is an answer that came too late for its question.
            Ok((length, _)) => {
                if let Some(said) = ShellInput::of_packet(packet.get(..length)?) {
                    return Some(said);
                }
            }
            // The socket has a timeout for those who wait for answers.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// A terminal: our side, and that of the shell.
fn terminal() -> io::Result<(File, File)> {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: the call writes two descriptors; the other pointers may be null.
    let opened = unsafe {
        libc::openpty(
            &raw mut ours,
            &raw mut theirs,
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    if opened != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has made it, for this use.
    let ours = unsafe { File::from_raw_fd(ours) };
    // SAFETY: as above.
    let theirs = unsafe { File::from_raw_fd(theirs) };
    // The shell has its end as its standard streams only, and not ours: that being closed is how it hears that nobody is there.
    for end in [&ours, &theirs] {
        fcntl_setfd(end, FdFlags::CLOEXEC)?;
    }
    Ok((ours, theirs))
}

fn set_size(terminal: &File, rows: u16, columns: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize. That it is refused leaves the size as it was.
    let _refused = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `exit` ends the run, though a command in the background holds the terminal.
    #[test]
    fn what_a_shell_leaves_running_does_not_keep_its_terminal() {
        let (mut ours, theirs) = terminal().expect("a terminal");
        let held = theirs.try_clone().expect("a descriptor");
        let mut command = Command::new("true");
        command.stdout(theirs);
        let mut shell = command.spawn().expect("started");
        drop(command);
        relay(&mut ours, &mut shell).expect("relayed");
        assert!(wait(shell).is_ok());
        drop(held);
    }
}
