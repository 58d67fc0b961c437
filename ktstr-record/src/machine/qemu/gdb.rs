//! A client of the emulator's gdbstub: stops, watchpoints, registers and memory.
//!
//! Protocol: GDB manual, appendix E. What of it QEMU's stub does (measured with 10.0):
//!
//! - a packet is `$payload#checksum`, acknowledged by `+`; there is no mode without acknowledgements;
//! - any byte that comes while the VM runs stops it, so every packet is acknowledged at once;
//! - requests may be sent in a row, `$` counts as the acknowledgement of the answer before it;
//! - after `c` comes exactly one stop reply, however the VM is stopped;
//! - `?` removes all watchpoints, and closing the connection leaves the VM stopped.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::socket::{io_error, read_more};
use crate::machine::error::MachineError;
use crate::machine::interface::Watch;
use crate::machine::served::{Patience, Silence};
use ktstr_replay::units::Cpu;

/// The stub's own limit (`MAX_PACKET_LENGTH`) and room for escapes.
const MAX_PACKET_BYTES: usize = 16 << 10;
/// Signal number of a stop that was asked for.
const SIGINT: u8 = 2;
/// Signal number of a stop by a watchpoint.
const SIGTRAP: u8 = 5;

/// A connection to the gdbstub.
#[derive(Debug)]
pub(super) struct Gdb {
    stream: UnixStream,
    input: Vec<u8>,
    patience: Patience,
}

/// Why the VM stopped, as the stub says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StopReply {
    /// In gdb's numbering.
    signal: u8,
    /// Thread id: the vCPU's index and one.
    thread: u32,
    /// Address of the watchpoint that was hit.
    watch: Option<u64>,
}

impl StopReply {
    /// Neither asked for nor by a watchpoint or breakpoint: the guest has ended.
    pub(super) fn is_end(&self) -> bool {
        !matches!(self.signal, SIGINT | SIGTRAP)
    }

    /// The vCPU that it names.
    pub(super) fn vcpu(&self) -> Cpu {
        Cpu(self.thread.saturating_sub(1))
    }

    /// Address of the watchpoint that was hit.
    pub(super) fn watched(&self) -> Option<u64> {
        self.watch.filter(|_| self.signal == SIGTRAP)
    }

    /// A trap without a watchpoint: a breakpoint, or the end of a single step.
    pub(super) fn is_plain_trap(&self) -> bool {
        self.signal == SIGTRAP && self.watch.is_none()
    }
}

impl Gdb {
    /// Take over a fresh connection; for every answer there is so much patience.
    pub(super) fn connect(stream: UnixStream, patience: impl Into<Patience>) -> Result<Self, MachineError> {
        stream.set_nonblocking(true).map_err(io_error("set up the gdb socket"))?;
        let mut gdb = Self { stream, input: Vec::new(), patience: patience.into() };
        // Names no feature, above all not "multiprocess", so that thread ids are plain numbers.
        gdb.request("qSupported")?;
        Ok(gdb)
    }

    /// Stop whenever `watch` fires, on any vCPU. Breakpoints are of the hardware kind, which no emulator puts into the
    /// guest's memory.
    pub(super) fn insert(&mut self, watch: &Watch) -> Result<(), MachineError> {
        self.change_watch('Z', watch)
    }

    /// The opposite of [`insert`](Self::insert).
    pub(super) fn remove(&mut self, watch: &Watch) -> Result<(), MachineError> {
        self.change_watch('z', watch)
    }

    /// Stop after every load of any of the `bytes` bytes at `at`.
    pub(super) fn insert_read(&mut self, at: u64, bytes: u64) -> Result<(), MachineError> {
        self.change(&format!("Z3,{at:x},{bytes:x}"))
    }

    fn change_watch(&mut self, how: char, watch: &Watch) -> Result<(), MachineError> {
        self.change(&match watch {
            Watch::Write { at, bytes } => format!("{how}2,{at:x},{bytes:x}"),
            Watch::Execute { at } => format!("{how}1,{at:x},1"),
        })
    }

    /// A request that is answered by `OK`.
    fn change(&mut self, request: &str) -> Result<(), MachineError> {
        match self.request(request)?.as_slice() {
            b"OK" => Ok(()),
            answer => Err(unexpected(request, answer)),
        }
    }

    /// Let the VM go on. The acknowledgement is not waited for: the stub sends it before the vCPUs are started, and these then have the
    /// CPUs that this process would need to hear of it. What is asked next, an interrupt too, is read by the stub after this.
    pub(super) fn go_on(&mut self) -> Result<(), MachineError> {
        self.send(&frame(b"c"))
    }

    /// Let one vCPU of a stopped VM execute one instruction, where a breakpoint is, too: QEMU's single steps pass over
    /// them. Returns what stopped it.
    pub(super) fn step(&mut self, vcpu: Cpu) -> Result<StopReply, MachineError> {
        let request = format!("vCont;s:{:x}", vcpu.0 + 1);
        let answer = self.request(&request)?;
        parse_stop(&answer).ok_or_else(|| unexpected(&request, &answer))
    }

    /// Ask a running VM to stop; [`stop`](Self::stop) tells when it has. Without effect on a stopped one.
    pub(super) fn interrupt(&mut self) -> Result<(), MachineError> {
        self.send(&[3])
    }

    /// The stop reply of a VM that was told to stop or has ended, which is to come within `limit` of the time in which the host
    /// runs it.
    pub(super) fn await_stop(&mut self, limit: Duration) -> Result<Result<StopReply, Silence>, MachineError> {
        Patience { limit, ..self.patience }.wait(|until| self.stop(until))
    }

    /// The stop reply of a VM that was told to go on, if it comes before `deadline`.
    pub(super) fn stop(&mut self, deadline: Instant) -> Result<Option<StopReply>, MachineError> {
        let Some(packet) = self.packet(deadline)? else { return Ok(None) };
        parse_stop(&packet).map(Some).ok_or_else(|| unexpected("c", &packet))
    }

    /// A document of `qXfer:features`, such as `target.xml`.
    pub(super) fn feature(&mut self, name: &str) -> Result<String, MachineError> {
        let mut document = Vec::new();
        loop {
            let request = format!("qXfer:features:read:{name}:{:x},ff0", document.len());
            let answer = self.request(&request)?;
            match answer.split_first() {
                Some((b'l', rest)) => document.extend(unescape(rest)),
                Some((b'm', rest)) if !rest.is_empty() && document.len() < 1 << 20 => {
                    document.extend(unescape(rest));
                    continue;
                }
                _ => return Err(unexpected(&request, &answer)),
            }
            return String::from_utf8(document).map_err(|e| unexpected(&request, e.as_bytes()));
        }
    }

    /// The register file (`g`) of each of the vCPUs from 0 to `vcpus`, raw.
    pub(super) fn registers(&mut self, vcpus: u32) -> Result<Vec<Vec<u8>>, MachineError> {
        self.on_each((0..vcpus).map(Cpu), "g")?
            .into_iter()
            .map(|answer| unhex(&answer).ok_or_else(|| unexpected("g", &answer)))
            .collect()
    }

    /// Eight bytes at the virtual address `address`, as each of `vcpus` would read them; `None` where it is not
    /// mapped.
    pub(super) fn read_u64(&mut self, vcpus: &[Cpu], address: u64) -> Result<Vec<Option<u64>>, MachineError> {
        let answers = self.on_each(vcpus.iter().copied(), &format!("m{address:x},8"))?;
        let value = |answer: Vec<u8>| Some(u64::from_le_bytes(unhex(&answer)?.try_into().ok()?));
        Ok(answers.into_iter().map(value).collect())
    }

    /// Bytes at the virtual address `address`, as `vcpu` would read them; `None` where they are not all mapped.
    pub(super) fn read<const N: usize>(
        &mut self,
        vcpu: Cpu,
        address: u64,
    ) -> Result<Option<[u8; N]>, MachineError> {
        let answers = self.on_each([vcpu].into_iter(), &format!("m{address:x},{N:x}"))?;
        Ok(answers.first().and_then(|answer| unhex(answer)?.try_into().ok()))
    }

    /// Write to the virtual address `address`, whether `vcpu` itself might do so or not. What the emulator has translated
    /// of these bytes is forgotten (`cpu_memory_rw_debug` in QEMU's `system/physmem.c` writes, then invalidates).
    pub(super) fn write(&mut self, vcpu: Cpu, address: u64, bytes: &[u8]) -> Result<(), MachineError> {
        self.change_on(vcpu, &format!("M{address:x},{:x}:{}", bytes.len(), hex(bytes)))
    }

    /// Set the register of 64 bits that is the `number`th of the description.
    pub(super) fn set_register(&mut self, vcpu: Cpu, number: usize, value: u64) -> Result<(), MachineError> {
        self.change_on(vcpu, &format!("P{number:x}={}", hex(&value.to_le_bytes())))
    }

    fn change_on(&mut self, vcpu: Cpu, request: &str) -> Result<(), MachineError> {
        match self.on_each([vcpu].into_iter(), request)?.as_slice() {
            [answer] if answer == b"OK" => Ok(()),
            answers => Err(unexpected(request, &answers.concat())),
        }
    }

    /// Send `request` in the name of each of `vcpus`, all before the first answer is awaited.
    fn on_each(
        &mut self,
        vcpus: impl Iterator<Item = Cpu>,
        request: &str,
    ) -> Result<Vec<Vec<u8>>, MachineError> {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for vcpu in vcpus {
            bytes.extend(frame(format!("Hg{:x}", vcpu.0 + 1).as_bytes()));
            bytes.extend(frame(request.as_bytes()));
            count += 1;
        }
        self.send(&bytes)?;
        let mut answers = Vec::with_capacity(count);
        for _ in 0..count {
            let chosen = self.answer("Hg")?;
            if chosen != b"OK" {
                return Err(unexpected("Hg", &chosen));
            }
            answers.push(self.answer(request)?);
        }
        Ok(answers)
    }

    fn request(&mut self, request: &str) -> Result<Vec<u8>, MachineError> {
        self.send(&frame(request.as_bytes()))?;
        self.answer(request)
    }

    fn answer(&mut self, request: &str) -> Result<Vec<u8>, MachineError> {
        self.patience
            .wait(|until| self.packet(until))?
            .map_err(|silence| silence.to(format!("gdb's {request}")))
    }

    /// The next packet, acknowledged.
    fn packet(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, MachineError> {
        loop {
            match next_packet(&mut self.input) {
                Parsed::Packet(payload) => {
                    self.send(b"+")?;
                    return Ok(Some(payload));
                }
                Parsed::Damaged(bytes) => return Err(unexpected("a request", &bytes)),
                Parsed::Incomplete if !self.fill(deadline)? => return Ok(None),
                Parsed::Incomplete => {}
            }
        }
    }

    /// Read what has arrived, waiting for it; false when `deadline` passed before.
    fn fill(&mut self, deadline: Instant) -> Result<bool, MachineError> {
        read_more(&self.stream, &mut self.input, deadline, "gdb")
    }

    fn send(&self, bytes: &[u8]) -> Result<(), MachineError> {
        // At most 30 bytes for each of 255 vCPUs: less than the socket's buffer, which the stub empties.
        (&self.stream).write_all(bytes).map_err(io_error("write to the gdb socket"))
    }
}

impl AsFd for Gdb {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [b"$", payload, format!("#{:02x}", checksum(payload)).as_bytes()].concat()
}

fn checksum(payload: &[u8]) -> u8 {
    payload.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[derive(Debug, PartialEq)]
enum Parsed {
    Packet(Vec<u8>),
    Incomplete,
    Damaged(Vec<u8>),
}

/// Take the first packet off `input`, with the acknowledgements before it.
fn next_packet(input: &mut Vec<u8>) -> Parsed {
    let acks = input.iter().take_while(|&&b| b == b'+').count();
    input.drain(..acks);
    match input.first() {
        None => return Parsed::Incomplete,
        Some(b'$') => {}
        Some(_) => return Parsed::Damaged(std::mem::take(input)),
    }
    let end = input.iter().position(|&b| b == b'#').filter(|end| input.len() >= end + 3);
    let Some(end) = end else {
        let hopeless = input.len() > MAX_PACKET_BYTES;
        return if hopeless { Parsed::Damaged(std::mem::take(input)) } else { Parsed::Incomplete };
    };
    let packet: Vec<u8> = input.drain(..end + 3).collect();
    let payload = &packet[1..end];
    match unhex(&packet[end + 1..]) {
        Some(sum) if sum == [checksum(payload)] => Parsed::Packet(payload.to_vec()),
        _ => Parsed::Damaged(packet),
    }
}

/// `T05thread:02;watch:6b7470000000;`, with numbers in hex.
fn parse_stop(payload: &[u8]) -> Option<StopReply> {
    let text = std::str::from_utf8(payload).ok()?.strip_prefix('T')?;
    let signal = u8::from_str_radix(text.get(..2)?, 16).ok()?;
    let mut stop = StopReply { signal, thread: 0, watch: None };
    for field in text[2..].split(';').filter(|f| !f.is_empty()) {
        match field.split_once(':')? {
            ("thread", id) => stop.thread = u32::from_str_radix(id, 16).ok()?,
            ("watch" | "rwatch", address) => stop.watch = Some(u64::from_str_radix(address, 16).ok()?),
            _ => {}
        }
    }
    Some(stop)
}

/// `}` escapes the byte after it, which is then xored with 0x20.
fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'}' => out.extend(bytes.next().map(|b| b ^ 0x20)),
            _ => out.push(byte),
        }
    }
    out
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).map(|v| v as u8);
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then_some(())?;
    pairs.iter().map(|[high, low]| Some(value(high)? << 4 | value(low)?)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unexpected(request: &str, answer: &[u8]) -> MachineError {
    let answer = format!("{:?}", String::from_utf8_lossy(answer));
    MachineError::Protocol { what: format!("gdb's {request}"), answer }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::{Cpu, Gdb, Parsed, StopReply, frame, hex, next_packet, parse_stop, unescape, unhex};

    #[test]
    fn stop_replies() {
        let watch = parse_stop(b"T05thread:0a;watch:6b7470000000;").unwrap();
        assert_eq!(watch, StopReply { signal: 5, thread: 10, watch: Some(0x6b74_7000_0000) });
        assert_eq!((watch.watched(), watch.vcpu()), (Some(0x6b74_7000_0000), Cpu(9)));
        let read = parse_stop(b"T05thread:03;rwatch:ffffffff83d5ec10;").unwrap();
        assert_eq!((read.watched(), read.is_plain_trap()), (Some(0xffff_ffff_83d5_ec10), false));
        let interrupted = parse_stop(b"T02thread:01;").unwrap();
        assert_eq!(interrupted.watched(), None);
        let trap = parse_stop(b"T05thread:02;").unwrap();
        assert!(trap.is_plain_trap() && !watch.is_plain_trap() && !interrupted.is_plain_trap());
        assert!(parse_stop(b"T03thread:01;").unwrap().is_end() && !interrupted.is_end() && !watch.is_end());
        for wrong in [&b"OK"[..], b"T", b"T0", b"Txx", b"T05thread", b"T05thread:zz;", b"\xff"] {
            assert_eq!(parse_stop(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_stop_is_heard_with_the_acknowledgement_and_after_it() {
        for parts in [&["+$T05thread:02;#08"][..], &["+", "$T05thread:02;#08"], &["+$T05th", "read:02;#08"]] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (go, may_go) = std::sync::mpsc::channel();
            let stub = std::thread::spawn(move || {
                let mut request = [0; 64];
                let read = |theirs: &mut UnixStream, request: &mut [u8; 64]| {
                    while !theirs.read(request).is_ok_and(|count| request[..count].contains(&b'#')) {}
                };
                read(&mut theirs, &mut request);
                theirs.write_all(b"+$#00").unwrap();
                read(&mut theirs, &mut request);
                for part in parts {
                    may_go.recv().unwrap();
                    theirs.write_all(part.as_bytes()).unwrap();
                }
                theirs
            });
            let mut gdb = Gdb::connect(ours, Duration::from_secs(60)).unwrap();
            // Nothing is acknowledged yet.
            gdb.go_on().unwrap();
            let mut reply = None;
            for nth in 0..parts.len() {
                assert_eq!(gdb.stop(Instant::now()).unwrap(), None, "before the {nth}. of {parts:?}");
                go.send(()).unwrap();
                let last = nth + 1 == parts.len();
                let until = Instant::now() + Duration::from_secs(if last { 60 } else { 0 });
                reply = gdb.stop(until).unwrap();
            }
            let reply = reply.expect("the stop");
            assert_eq!((reply.is_plain_trap(), reply.vcpu()), (true, Cpu(1)));
            stub.join().unwrap();
        }
    }

    #[test]
    fn packets_come_out_whole_and_in_order() {
        let mut input = b"+$OK#9a+$T02thread:01;#".to_vec();
        assert_eq!(next_packet(&mut input), Parsed::Packet(b"OK".to_vec()));
        assert_eq!(next_packet(&mut input), Parsed::Incomplete);
        input.extend_from_slice(b"0");
        assert_eq!(next_packet(&mut input), Parsed::Incomplete);
        input.extend_from_slice(b"4");
        assert_eq!(next_packet(&mut input), Parsed::Packet(b"T02thread:01;".to_vec()));
        assert!(input.is_empty());
    }

    #[test]
    fn damage_is_told() {
        for wrong in ["$OK#9b", "$OK#zz", "hello", "-$OK#9a"] {
            assert!(matches!(next_packet(&mut wrong.into()), Parsed::Damaged(_)), "{wrong}");
        }
        let mut endless = vec![b'$'; super::MAX_PACKET_BYTES + 1];
        assert!(matches!(next_packet(&mut endless), Parsed::Damaged(_)));
    }

    #[test]
    fn hex_and_escapes() {
        assert_eq!(unhex(b"00fFa5"), Some(vec![0, 0xff, 0xa5]));
        assert_eq!(hex(&[0, 0xff, 0xa5]), "00ffa5");
        assert_eq!(unhex(b"E14"), None);
        assert_eq!(unhex(b"0g"), None);
        assert_eq!(unescape(b"a}\x03b}"), b"a#b");
    }

    proptest! {
        #[test]
        fn a_framed_payload_is_read_back(payload in "[a-zA-Z0-9:;,+-]{0,64}", rest in ".{0,16}") {
            let mut input = frame(payload.as_bytes());
            input.extend_from_slice(rest.as_bytes());
            prop_assert_eq!(next_packet(&mut input), Parsed::Packet(payload.into_bytes()));
            prop_assert_eq!(input, rest.into_bytes());
        }

        #[test]
        fn no_input_panics(mut input in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse_stop(&input);
            let _ = next_packet(&mut input);
        }
    }
}
