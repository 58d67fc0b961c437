//! The statistics that a scheduler serves, asked for after each capture.
//!
//! Schedulers that use the crate scx_stats (its `server.rs`) listen on a Unix socket. A request is a line of JSON, and so is
//! its answer. The server keeps what it told a connection last, and many schedulers tell what has changed since then: so one
//! connection is kept, and an answer is about the time since the one before.
//!
//! Nothing here waits: what can be done without is done in each turn of init's loop. One question is asked at a time, and
//! each has its answer, or a reason why there is none, within [`ANSWER_LIMIT`] of its capture.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest_init::message::ToHost;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    socket_with,
};

use crate::Failure;
use crate::link::monotonic_ns;

/// Where schedulers listen.
const SOCKET: &str = "/var/run/scx/root/stats";
/// What is asked for. A server names the types of its statistics, and not what can be asked for; this is what all of them have,
/// and the only one that takes no arguments.
const TARGET: &str = "top";
/// The question.
const REQUEST: &[u8] = b"{\"req\":\"stats\",\"args\":{\"target\":\"top\"}}\n";
/// How long after the capture an answer may come.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Longest answer that is taken, in bytes.
const ANSWER_BYTES: usize = 128 << 10;
/// Most bytes of an answer that are read in one turn.
const PIECE_BYTES: usize = 16 << 10;
/// Most captures whose answers are awaited.
const WAITING: usize = 16;

/// Asks the scheduler.
pub struct Stats {
    socket: PathBuf,
    limit: Duration,
    connection: Option<Connection>,
    /// This scheduler has served once, so that it is told when it does not any more.
    serves: bool,
    /// Why it could not be connected to, where it never could.
    refused: Option<Failure>,
    /// The captures whose answers are awaited. Only the first is asked for.
    waiting: VecDeque<Question>,
}

/// What is to be asked for one capture.
struct Question {
    /// The capture, by the number of its sample.
    sample: u32,
    heard: Instant,
    /// When it was sent, by `CLOCK_MONOTONIC`; 0 before.
    asked_ns: u64,
}

/// A connection to the scheduler.
struct Connection {
    stream: OwnedFd,
    /// What has come of the answer.
    line: Vec<u8>,
    /// It has answered before.
    is_used: bool,
}

/// What reading an answer has come to.
enum Progress {
    /// The rest has not come yet.
    Pending,
    /// This is it, without its newline.
    Answer(Vec<u8>),
    /// There is no connection any more.
    Closed(Failure),
    /// It is none that can be taken.
    Unfit(Failure),
}

impl Default for Stats {
    fn default() -> Self {
        Self::of_socket(Path::new(SOCKET), ANSWER_LIMIT)
    }
}

impl Stats {
    fn of_socket(socket: &Path, limit: Duration) -> Self {
        let socket = socket.to_owned();
        Self { socket, limit, connection: None, serves: false, refused: None, waiting: VecDeque::new() }
    }

    /// Another scheduler is about to be started: what the one before it served, and the socket that it left, are not of it.
    /// Returns what there is to say.
    pub fn begin_anew(&mut self) -> Vec<ToHost> {
        let unanswered = self.give_up("the scheduler ended before an answer came");
        (self.serves, self.refused) = (false, None);
        // A scheduler that listens removes it likewise.
        let _absent = fs::remove_file(&self.socket);
        unanswered
    }

    /// Whether the scheduler serves statistics, as far as can be seen: it did, or something is there to connect to.
    fn is_served(&self) -> bool {
        self.serves || self.socket.exists()
    }

    /// A capture was taken: ask, where the scheduler serves statistics. Returns what there is to say at once.
    pub fn captured(&mut self, sample: u32) -> Option<ToHost> {
        let question = Question { sample, heard: Instant::now(), asked_ns: 0 };
        if self.waiting.len() >= WAITING {
            let why = format!("it was not asked for: {WAITING} answers are awaited");
            return self.is_served().then(|| question.outcome(Err(why)));
        }
        self.waiting.push_back(question);
        None
    }

    /// Whether answers are awaited of a scheduler that serves any.
    pub fn is_asking(&self) -> bool {
        !self.waiting.is_empty() && self.is_served()
    }

    /// The descriptor to poll while an answer is awaited.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().filter(|_| self.is_asking()).map(|connection| connection.stream.as_fd())
    }

    /// Do what can be done without waiting. Returns what there is to say.
    pub fn turn(&mut self) -> Vec<ToHost> {
        let mut said = Vec::new();
        while let Some(outcome) = self.step() {
            said.extend(self.waiting.pop_front().map(|question| question.outcome(outcome)));
        }
        said
    }

    /// Ask no more. Returns that the answers which are still awaited did not come.
    pub fn give_up(&mut self, why: &str) -> Vec<ToHost> {
        self.connection = None;
        if !self.is_served() {
            self.waiting.clear();
        }
        self.waiting.drain(..).map(|question| question.outcome(Err(why.to_owned()))).collect()
    }

    /// What came of the first question, once something has.
    fn step(&mut self) -> Option<Result<Vec<u8>, Failure>> {
        let failed = |this: &mut Self, why| {
            this.connection = None;
            Some(Err(why))
        };
        loop {
            let question = self.waiting.front()?;
            let is_late = question.heard.elapsed() >= self.limit;
            if !self.is_served() {
                // Some begin to listen a moment after they are enabled. One that does not serves nothing, which is not said.
                if !is_late {
                    return None;
                }
                self.waiting.pop_front();
                continue;
            }
            if is_late {
                // What comes later would be taken for the next answer.
                let why = format!("no answer came within {:?} of the capture", self.limit);
                let why = self.refused.take().unwrap_or(why);
                return failed(self, why);
            }
            if question.asked_ns == 0
                && let Err(why) = self.ask()
            {
                if self.serves {
                    return failed(self, why);
                }
                // There is a socket a moment before there is a listener.
                self.refused = Some(why);
                return None;
            }
            let progress = self.connection.as_mut().map(Connection::read)?;
            match progress {
                Progress::Pending => return None,
                Progress::Answer(line) => return Some(Ok(line)),
                Progress::Unfit(why) => return failed(self, why),
                // A scheduler that has begun anew has closed the connections of before; a new one was never used.
                Progress::Closed(_) if self.connection.as_ref().is_some_and(|old| old.is_used) => {
                    self.connection = None;
                    self.waiting.iter_mut().take(1).for_each(|question| question.asked_ns = 0);
                }
                Progress::Closed(why) => return failed(self, why),
            }
        }
    }

    /// Send the first question.
    fn ask(&mut self) -> Result<(), Failure> {
        let connection = match self.connection.take().filter(Connection::is_quiet) {
            Some(connection) => connection,
            None => Connection::open(&self.socket)?,
        };
        (self.serves, self.refused) = (true, None);
        let connection = self.connection.insert(connection);
        connection.line.clear();
        for question in self.waiting.iter_mut().take(1) {
            question.asked_ns = monotonic_ns();
        }
        match send(&connection.stream, REQUEST, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) if sent == REQUEST.len() => Ok(()),
            // That it is closed is found by reading.
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Ok(_) | Err(Errno::AGAIN) => {
                Err("the scheduler does not read what it was asked before".to_owned())
            }
            Err(error) => Err(format!("asking: {error}")),
        }
    }
}

impl Question {
    fn outcome(self, outcome: Result<Vec<u8>, Failure>) -> ToHost {
        let (line, fault) = match outcome {
            Ok(line) => (line, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        ToHost::Stats { sample: self.sample, target: TARGET.to_owned(), asked_ns: self.asked_ns, line, fault }
    }
}

impl Connection {
    fn open(socket: &Path) -> Result<Self, Failure> {
        let failed = |error: Errno| {
            let error = io::Error::from(error);
            format!("connecting to {}: {error}", socket.display())
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        let address = SocketAddrUnix::new(socket).map_err(failed)?;
        connect(&stream, &address).map_err(failed)?;
        Ok(Self { stream, line: Vec::new(), is_used: false })
    }

    /// Whether it is open and nothing came that was not asked for, which would be taken for the next answer.
    fn is_quiet(&self) -> bool {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        matches!(recv(&self.stream, &mut [0; 1][..], flags), Err(Errno::AGAIN))
    }

    /// Take in what has come.
    fn read(&mut self) -> Progress {
        let mut piece = [0; PIECE_BYTES];
        let length = match recv(&self.stream, &mut piece[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET | Errno::PIPE) => {
                let come = self.line.len();
                let why = "the scheduler closed the connection before it had answered";
                return match come {
                    0 => Progress::Closed(why.to_owned()),
                    _ => Progress::Unfit(format!("{why}: {come} bytes of an answer came")),
                };
            }
            Ok((length, _)) => length.min(PIECE_BYTES),
            Err(Errno::AGAIN | Errno::INTR) => return Progress::Pending,
            Err(error) => return Progress::Unfit(format!("reading the answer: {error}")),
        };
        let piece = &piece[..length];
        let end = piece.iter().position(|&byte| byte == b'\n');
        self.line.extend_from_slice(&piece[..end.unwrap_or(length)]);
        if self.line.len() > ANSWER_BYTES {
            return Progress::Unfit(format!("the answer is longer than {ANSWER_BYTES} bytes"));
        }
        match end {
            None => Progress::Pending,
            Some(at) if at + 1 < length => {
                Progress::Unfit("more came than the one line that was asked for".to_owned())
            }
            Some(_) => {
                self.is_used = true;
                Progress::Answer(std::mem::take(&mut self.line))
            }
        }
    }
}

#[cfg(test)]
mod tests;
