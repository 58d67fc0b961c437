//! A client of QMP, the emulator's control protocol: JSON values, one a line, over a socket.
//!
//! Format: QEMU, `docs/interop/qmp-spec.rst`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::inherited_path;
use super::socket::{io_error, read_more, wait_readable};
use crate::machine::error::MachineError;
use crate::machine::served::Patience;

/// No answer of the commands that we give is longer; one that is means that the stream is not QMP.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Far longer than saving or loading a state takes (measured: 6 ms).
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(20);
const MIGRATION_POLL: Duration = Duration::from_millis(1);

/// A connection to the emulator's monitor.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: UnixStream,
    input: Vec<u8>,
    events: VecDeque<Event>,
    release: (u64, u64),
    /// What answers.
    process: Option<u32>,
}

/// Something the emulator reported by itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub name: String,
    pub data: Value,
}

impl Qmp {
    /// Take over a fresh connection: await the greeting, leave negotiation mode. Every later limit is of the time in which the host
    /// runs the same process.
    pub(super) fn connect(stream: UnixStream, patience: impl Into<Patience>) -> Result<Self, MachineError> {
        let patience = patience.into();
        stream.set_nonblocking(true).map_err(io_error("set up the QMP socket"))?;
        let (events, process) = (VecDeque::new(), patience.process);
        let mut qmp = Self { stream, input: Vec::new(), events, release: (0, 0), process };
        let greeting = patience.wait(|until| qmp.message(until))?;
        let greeting = greeting.map_err(|silence| silence.to("the connection"))?;
        if greeting.get("QMP").is_none() {
            return Err(unexpected("the connection", &greeting));
        }
        let number =
            |part: &str| greeting.pointer(&format!("/QMP/version/qemu/{part}")).and_then(Value::as_u64);
        qmp.release = (number("major").unwrap_or_default(), number("minor").unwrap_or_default());
        qmp.command("qmp_capabilities", json!({}), patience.limit)?;
        Ok(qmp)
    }

    /// Major and minor number of the emulator's release, as it said at the beginning; zeroes where it did not.
    pub(super) fn release(&self) -> (u64, u64) {
        self.release
    }

    /// Execute `name` and return what it returns, within `limit` of the time in which the host runs the emulator. Events that come
    /// meanwhile are kept.
    pub(super) fn command(
        &mut self,
        name: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, MachineError> {
        let line = format!("{}\n", json!({ "execute": name, "arguments": arguments }));
        // A command is far smaller than the socket's buffer, which is empty: commands go one at a time.
        (&self.stream).write_all(line.as_bytes()).map_err(io_error("write to the QMP socket"))?;
        let answer = self.patience(limit).wait(|until| {
            while let Some(message) = self.message(until)? {
                match parse(message) {
                    Message::Return(value) => return Ok(Some(value)),
                    Message::Error(why) => return Err(MachineError::Refused { what: name.to_owned(), why }),
                    Message::Event(event) => self.events.push_back(event),
                    Message::Other(value) => return Err(unexpected(name, &value)),
                }
            }
            Ok(None)
        })?;
        answer.map_err(|silence| silence.to(name))
    }

    fn patience(&self, limit: Duration) -> Patience {
        Patience { limit, process: self.process }
    }

    /// Wait until something can be read, within `limit` of the time in which the host runs the emulator; whether it can.
    pub(super) fn await_input(&self, limit: Duration) -> Result<bool, MachineError> {
        let readable = self.patience(limit).wait(|until| {
            let [readable] = wait_readable([self.as_fd()], until)?;
            Ok::<_, MachineError>(readable.then_some(()))
        })?;
        Ok(readable.is_ok())
    }

    /// The next event, if one has arrived.
    pub(super) fn event(&mut self) -> Result<Option<Event>, MachineError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        match self.message(Instant::now())?.map(parse) {
            None => Ok(None),
            Some(Message::Event(event)) => Ok(Some(event)),
            Some(Message::Return(value) | Message::Other(value)) => Err(unexpected("nothing", &value)),
            Some(Message::Error(answer)) => Err(MachineError::Protocol { what: "nothing".into(), answer }),
        }
    }

    fn message(&mut self, deadline: Instant) -> Result<Option<Value>, MachineError> {
        loop {
            if let Some(end) = self.input.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|e| MachineError::Protocol {
                    what: "QMP".into(),
                    answer: format!("{e} in {:?}", String::from_utf8_lossy(&line)),
                });
            }
            if self.input.len() > MAX_LINE_BYTES {
                let answer = format!("a line of more than {MAX_LINE_BYTES} bytes");
                return Err(MachineError::Protocol { what: "QMP".into(), answer });
            }
            if !read_more(&self.stream, &mut self.input, deadline, "QMP")? {
                return Ok(None);
            }
        }
    }

    /// Write the state of CPUs and devices of a stopped VM to `state`, which the emulator has inherited. The VM can go on
    /// afterwards.
    pub(super) fn save_state(&mut self, state: &File) -> Result<(), MachineError> {
        self.migrate("migrate", state)
    }

    /// Load `state`, which the emulator has inherited, into a VM that was started for it. It stays stopped.
    pub(super) fn load_state(&mut self, state: &File) -> Result<(), MachineError> {
        self.migrate("migrate-incoming", state)
    }

    /// A migration to or from a file, with the capability `x-ignore-shared`: RAM is shared with us and stays out of it, so
    /// that the state is a third of a megabyte.
    fn migrate(&mut self, command: &str, state: &File) -> Result<(), MachineError> {
        let capability = json!([{ "capability": "x-ignore-shared", "state": true }]);
        self.command("migrate-set-capabilities", json!({ "capabilities": capability }), MIGRATION_TIMEOUT)?;
        let uri = format!("file:{}", inherited_path(state.as_raw_fd()).display());
        self.command(command, json!({ "uri": uri }), MIGRATION_TIMEOUT)?;
        let done = self.patience(MIGRATION_TIMEOUT).wait(|until| {
            loop {
                let answer = self.command("query-migrate", json!({}), MIGRATION_TIMEOUT)?;
                match answer.get("status").and_then(Value::as_str) {
                    Some("completed") => return Ok(Some(())),
                    Some("failed" | "cancelled") => {
                        let why =
                            answer.get("error-desc").map_or_else(|| answer.to_string(), Value::to_string);
                        return Err(MachineError::Refused { what: command.to_owned(), why });
                    }
                    _ if Instant::now() >= until => return Ok(None),
                    _ => thread::sleep(MIGRATION_POLL),
                }
            }
        })?;
        done.map_err(|silence| silence.to(command))
    }
}

impl AsFd for Qmp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[derive(Debug, PartialEq)]
enum Message {
    Return(Value),
    Error(String),
    Event(Event),
    Other(Value),
}

fn parse(mut value: Value) -> Message {
    if let Some(returned) = value.get_mut("return") {
        return Message::Return(returned.take());
    }
    if let Some(error) = value.get("error") {
        let text = error.get("desc").and_then(Value::as_str).map(str::to_owned);
        return Message::Error(text.unwrap_or_else(|| error.to_string()));
    }
    match value.get("event").and_then(Value::as_str).map(str::to_owned) {
        Some(name) => {
            Message::Event(Event { name, data: value.get_mut("data").map_or(Value::Null, Value::take) })
        }
        None => Message::Other(value),
    }
}

fn unexpected(what: &str, answer: &Value) -> MachineError {
    MachineError::Protocol { what: what.to_owned(), answer: answer.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::{Event, Message, Qmp, parse};
    use crate::machine::MachineError;

    const LONG: Duration = Duration::from_secs(30);

    /// The emulator's end: greets, then gives `answers` to the commands after `qmp_capabilities`.
    fn peer(greeting: &'static str, answers: &'static [&'static str]) -> UnixStream {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            theirs.write_all(greeting.as_bytes()).unwrap();
            let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines();
            for answer in [&["{\"return\":{}}\r\n"][..], answers].concat() {
                let command: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
                assert!(command["execute"].is_string());
                // In two pieces, as sockets may.
                let (first, second) = answer.split_at(answer.len() / 2);
                theirs.write_all(first.as_bytes()).unwrap();
                thread::sleep(Duration::from_millis(5));
                theirs.write_all(second.as_bytes()).unwrap();
            }
        });
        ours
    }

    #[test]
    fn events_between_command_and_answer_are_kept() {
        let greeting = "{\"QMP\":{}}\r\n{\"event\":\"RESUME\"}\r\n";
        let answers =
            &["{\"event\":\"SHUTDOWN\",\"data\":{\"reason\":\"guest-reset\"}}\n{\"return\":{\"a\":1}}\n"];
        let mut qmp = Qmp::connect(peer(greeting, answers), LONG).unwrap();
        assert_eq!(qmp.command("query-status", json!({}), LONG).unwrap(), json!({"a": 1}));
        assert_eq!(qmp.event().unwrap().unwrap().name, "RESUME");
        assert_eq!(
            qmp.event().unwrap().unwrap(),
            Event { name: "SHUTDOWN".into(), data: json!({"reason": "guest-reset"}) }
        );
    }

    #[test]
    fn a_refusal_a_silence_and_an_end_are_told_apart() {
        let answers = &["{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such thing\"}}\n", "\n"];
        let mut qmp = Qmp::connect(peer("{\"QMP\":{}}\n", answers), LONG).unwrap();
        let error = qmp.command("nonsense", json!({}), LONG).unwrap_err();
        assert_eq!(error.to_string(), "the emulator refused nonsense: no such thing");
        assert!(matches!(qmp.command("x", json!({}), LONG), Err(MachineError::Protocol { .. })));
        assert!(matches!(qmp.command("x", json!({}), LONG), Err(MachineError::Died { .. })));

        let (ours, _theirs) = UnixStream::pair().unwrap();
        let error = Qmp::connect(ours, Duration::from_millis(10)).unwrap_err();
        assert!(matches!(error, MachineError::Silent { .. }), "{error}");
    }

    #[test]
    fn what_is_no_message_is_other() {
        assert_eq!(parse(json!([1])), Message::Other(json!([1])));
        assert_eq!(parse(json!({"event": 3})), Message::Other(json!({"event": 3})));
    }
}
