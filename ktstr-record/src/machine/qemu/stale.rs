//! Stale breakpoints: the emulator's fault, mended.
//!
//! Linux changes its running code by way of a breakpoint: `int3` over the first byte, the other bytes, the first byte
//! (`smp_text_poke_batch_finish` in `arch/x86/kernel/alternative.c`). QEMU with a thread for each vCPU forgets the
//! translation of a byte *before* it stores the new one (`notdirty_write` in `accel/tcg/cputlb.c`), so that another vCPU
//! may translate the `int3` once more in between. That translation stays when the `int3` is gone. The kernel knows nothing
//! of such a breakpoint and dies: `Oops: int3`.
//!
//! ```text
//! exc_int3 -> smp_text_poke_int3_handler   patching is going on: none of ours
//!          -> kprobe_int3_handler          a kprobe: none of ours
//!          -> notify_die                   loads the head of die_chain: the read watch stops here
//!          -> die("int3", regs, 0)         the breakpoint stops here: nobody wanted it
//! ```
//!
//! At `die` the byte is written again, which makes QEMU forget its translation, `regs->ip` goes back to it, and `die`
//! returns without having done anything: the instruction is executed as it is in memory. (QEMU before 10.2 forgets all
//! translations whenever a breakpoint stops it, `gdb_vm_state_change` in `gdbstub/system.c`; 11.1 keeps them.)
//!
//! A breakpoint makes all emulation slower (by 15 % in system calls, by 40 % in indirect calls), so that it is there only
//! for a while after the watch has stopped the machine. The watch costs nothing that could be measured.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use ktstr_replay::kernel::{KernelError, KernelProfile, KernelView};
use ktstr_replay::memory::Memory;
use ktstr_replay::trace::record::VcpuRegs;
use ktstr_replay::units::{Cpu, KernelVirt};
use serde::{Deserialize, Serialize};

use super::gdb::Gdb;
use super::regs::RegLayout;
use crate::machine::error::MachineError;
use crate::machine::interface::{StaleBreakpoint, Watch};

/// The instruction `int3`.
const INT3: u8 = 0xcc;
/// What `exc_int3` gives `die` for a name.
const NAME: [u8; 5] = *b"int3\0";
/// `endbr64`, and what a kernel makes of it where it is not needed (`gen_endbr_poison` in `arch/x86/include/asm/ibt.h`).
/// A caller may go past it.
const ENDBR: [[u8; 4]; 2] = [[0xf3, 0x0f, 0x1e, 0xfa], [0x0f, 0x1f, 0x40, 0xd6]];
/// The functions in which the watch may stop a vCPU (`kernel/notifier.c`), as far as a kernel has them.
const LOADING: [&str; 3] = ["notifier_call_chain", "atomic_notifier_call_chain", "notify_die"];
/// How long the breakpoint stays after the watch or it has stopped the machine: longer than a vCPU takes from the one to
/// the other, however little of the host it gets.
const ALERT: Duration = Duration::from_secs(2);
/// Most breakpoints that are kept for being told of: a guest can make as many as it likes.
const KEPT: usize = 4096;

/// Where a kernel comes by with a breakpoint that nobody wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Places {
    /// The head of `die_chain`, a pointer.
    chain: u64,
    /// The code that loads it.
    loading: Vec<Range<u64>>,
    /// The first instruction of `die` that every caller executes.
    die: u64,
    /// Offset of `ip` in `struct pt_regs`.
    ip: u64,
}

impl Places {
    /// Find them in the kernel that runs in `memory`.
    ///
    /// # Errors
    /// [`KernelError`]: this kernel cannot be read, by captures neither.
    pub(super) fn find(memory: &dyn Memory) -> Result<Self, KernelError> {
        let kernel = KernelProfile::from_memory(memory)?;
        let offset = |of: &str, field: &str| kernel.types().struct_field(of, field).map(|f| f.offset_bytes());
        let code = |name: &&str| {
            let at = kernel.symbols().address(name)?;
            let (_, bytes) = kernel.symbols().containing(at)?;
            Some(at.0..at.0.checked_add(bytes)?)
        };
        let die = kernel.symbol("die")?;
        let mut begin = [0; 4];
        KernelView::new(&kernel, memory).read(die, &mut begin)?;
        Ok(Self {
            loading: LOADING.iter().filter_map(code).collect(),
            chain: kernel.symbol("die_chain")?.0 + offset("atomic_notifier_head", "head")?,
            die: if ENDBR.contains(&begin) { die.0 + 4 } else { die.0 },
            ip: offset("pt_regs", "ip")?,
        })
    }
}

/// Looks out for stale breakpoints and mends them.
#[derive(Debug)]
pub(super) struct Mender {
    places: Places,
    /// Since when nothing has happened, while the breakpoint is there.
    alert: Option<Instant>,
    /// vCPUs that execute an `int3` again that is one in memory, and where it is.
    again: BTreeMap<Cpu, u64>,
    mended: Vec<StaleBreakpoint>,
}

impl Mender {
    /// Set the watch. The VM is stopped.
    pub(super) fn new(places: Places, gdb: &mut Gdb) -> Result<Self, MachineError> {
        gdb.insert_read(places.chain, 8)?;
        Ok(Self { places, alert: None, again: BTreeMap::new(), mended: Vec::new() })
    }

    /// What it goes by.
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Whether the watch at this address is its own.
    pub(super) fn watches(&self, address: u64) -> bool {
        address.wrapping_sub(self.places.chain) < 8
    }

    /// Whether its breakpoint is there.
    pub(super) fn is_alert(&self) -> bool {
        self.alert.is_some()
    }

    /// Whether its breakpoint is there, at this address.
    pub(super) fn stops_at(&self, address: u64) -> bool {
        self.alert.is_some() && address == self.places.die
    }

    /// Whether a vCPU at this address may have been stopped by its watch: when the VM is told to stop at the same
    /// instant, the emulator says no more than that it has stopped.
    pub(super) fn may_have_stopped(&self, rip: u64) -> bool {
        self.places.loading.iter().any(|code| code.contains(&rip))
    }

    /// Its watch has stopped the VM: someone has executed a breakpoint, or a notifier of traps is called for something
    /// else.
    pub(super) fn alert(&mut self, gdb: &mut Gdb) -> Result<(), MachineError> {
        if self.alert.is_none() {
            gdb.insert(&self.breakpoint())?;
        }
        self.alert = Some(Instant::now());
        Ok(())
    }

    /// Whether the breakpoint has been there for long enough.
    pub(super) fn is_over(&self) -> bool {
        self.alert.is_some_and(|since| since.elapsed() >= ALERT)
    }

    /// Remove the breakpoint. The VM is stopped.
    pub(super) fn calm(&mut self, gdb: &mut Gdb) -> Result<(), MachineError> {
        if self.alert.take().is_some() {
            gdb.remove(&self.breakpoint())?;
        }
        Ok(())
    }

    fn breakpoint(&self) -> Watch {
        Watch::Execute { at: self.places.die }
    }

    /// The vCPU with these registers stands at `die`. Whether it goes on with the instruction that it should have
    /// executed; else it dies, and rightly.
    pub(super) fn mend(
        &mut self,
        gdb: &mut Gdb,
        layout: &RegLayout,
        registers: &VcpuRegs,
    ) -> Result<bool, MachineError> {
        self.alert = Some(Instant::now());
        let vcpu = registers.cpu;
        let [.., regs, name, _, stack] = *registers.gpr.first_chunk::<8>().unwrap_or(&[0; 8]);
        if gdb.read(vcpu, name)? != Some(NAME) {
            return Ok(false);
        }
        let ip_at = regs.wrapping_add(self.places.ip);
        let (Some(ip), Some(caller)) = (gdb.read(vcpu, ip_at)?, gdb.read(vcpu, stack)?) else {
            return Ok(false);
        };
        let at = u64::from_le_bytes(ip).wrapping_sub(1);
        let Some([byte]) = gdb.read(vcpu, at)? else { return Ok(false) };
        if !self.is_to_be_executed_again(vcpu, at, byte) {
            return Ok(false);
        }
        gdb.write(vcpu, at, &[byte])?;
        gdb.write(vcpu, ip_at, &at.to_le_bytes())?;
        gdb.set_register(vcpu, layout.rip_number, u64::from_le_bytes(caller))?;
        gdb.set_register(vcpu, layout.rsp_number, stack.wrapping_add(8))?;
        Ok(true)
    }

    /// What is not `int3` in memory is. An `int3` is, once: the kernel may have begun to patch the same place again
    /// meanwhile, and then knows it; one that comes back is real.
    fn is_to_be_executed_again(&mut self, vcpu: Cpu, at: u64, byte: u8) -> bool {
        let before = self.again.remove(&vcpu);
        let replaced = byte != INT3;
        if !replaced {
            if before == Some(at) {
                return false;
            }
            self.again.insert(vcpu, at);
        }
        if self.mended.len() < KEPT {
            self.mended.push(StaleBreakpoint { vcpu, at: KernelVirt(at), replaced });
        }
        true
    }

    /// What was mended since the last call.
    pub(super) fn take(&mut self) -> Vec<StaleBreakpoint> {
        std::mem::take(&mut self.mended)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    use super::*;

    const DIE: u64 = 0x2000;
    const IP: u64 = 128;
    const REGS: u64 = 0x3000;
    const NAME_AT: u64 = 0x4000;
    const STACK: u64 = 0x5000;
    const AT: u64 = 0x6000;
    const CALLER: u64 = 0x7000;

    fn places() -> Places {
        Places { chain: 0x1000, loading: vec![0x8000..0x8010, 0x9000..0x9010], die: DIE, ip: IP }
    }

    /// Bytes of the guest's memory.
    type Bytes = HashMap<u64, u8>;

    /// A stub that has nothing but memory, and writes down what is changed. It ends with its connection.
    fn stub(mut memory: Bytes) -> (Gdb, JoinHandle<Vec<String>>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut input, mut chunk, mut changes) = (Vec::new(), [0; 4096], Vec::new());
            while let Ok(count @ 1..) = theirs.read(&mut chunk) {
                input.extend_from_slice(&chunk[..count]);
                while let Some(end) =
                    input.iter().position(|&b| b == b'#').filter(|end| input.len() >= end + 3)
                {
                    let packet: Vec<u8> = input.drain(..end + 3).collect();
                    let begin = packet.iter().position(|&b| b == b'$').unwrap();
                    let request = String::from_utf8(packet[begin + 1..packet.len() - 3].to_vec()).unwrap();
                    let answer = answer(&mut memory, &request);
                    if request.starts_with(['M', 'P', 'Z', 'z']) {
                        changes.push(request);
                    }
                    let sum = answer.bytes().fold(0u8, u8::wrapping_add);
                    theirs.write_all(format!("+${answer}#{sum:02x}").as_bytes()).unwrap();
                }
            }
            changes
        });
        (Gdb::connect(ours, Duration::from_secs(60)).unwrap(), thread)
    }

    fn answer(memory: &mut Bytes, request: &str) -> String {
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let Some((at, length)) = request.get(1..).and_then(|range| range.split_once(',')) else {
            return "OK".into();
        };
        match request.as_bytes()[0] {
            b'm' => {
                let at = number(at);
                let bytes = (at..at + number(length)).map(|at| memory.get(&at).map(|b| format!("{b:02x}")));
                bytes.collect::<Option<String>>().unwrap_or_else(|| "E14".into())
            }
            b'M' => {
                let (at, (_, digits)) = (number(at), length.split_once(':').unwrap());
                for (i, pair) in digits.as_bytes().chunks(2).enumerate() {
                    memory.insert(at + i as u64, number(std::str::from_utf8(pair).unwrap()) as u8);
                }
                "OK".into()
            }
            _ => "OK".into(),
        }
    }

    /// A guest that stands at `die`, called `name`, with this byte where it was interrupted.
    fn guest(name: &[u8; 5], byte: u8) -> Bytes {
        let mut memory = Bytes::new();
        let mut put = |at: u64, bytes: &[u8]| memory.extend((at..).zip(bytes.iter().copied()));
        put(REGS + IP, &(AT + 1).to_le_bytes());
        put(NAME_AT, name);
        put(STACK, &CALLER.to_le_bytes());
        put(AT, &[byte]);
        memory
    }

    fn registers(vcpu: u32) -> VcpuRegs {
        let mut registers = VcpuRegs { cpu: Cpu(vcpu), rip: DIE, ..VcpuRegs::default() };
        [registers.gpr[4], registers.gpr[5], registers.gpr[7]] = [REGS, NAME_AT, STACK];
        registers
    }

    /// What comes of vCPUs that stand at `die` one after the other, and what was changed for it.
    fn mended(memory: Bytes, vcpus: &[u32]) -> (Vec<bool>, Vec<StaleBreakpoint>, Vec<String>) {
        let (mut gdb, stub) = stub(memory);
        let mut mender = Mender::new(places(), &mut gdb).unwrap();
        let layout = RegLayout::of_test();
        let mend = |&vcpu: &u32| {
            // As it stands there anew.
            gdb.write(Cpu(vcpu), REGS + IP, &(AT + 1).to_le_bytes()).unwrap();
            mender.mend(&mut gdb, &layout, &registers(vcpu)).unwrap()
        };
        let verdicts = vcpus.iter().map(mend).collect();
        drop(gdb);
        (verdicts, mender.take(), stub.join().unwrap())
    }

    #[test]
    fn an_instruction_that_is_no_breakpoint_is_executed_again() {
        let (verdicts, told, changes) = mended(guest(&NAME, 0xe9), &[2]);
        assert_eq!(verdicts, [true]);
        assert_eq!(told, [StaleBreakpoint { vcpu: Cpu(2), at: KernelVirt(AT), replaced: true }]);
        let expected = [
            "Z3,1000,8",
            "M3080,8:0160000000000000",
            "M6000,1:e9",
            "M3080,8:0060000000000000",
            "P10=0070000000000000",
            "P7=0850000000000000",
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn a_breakpoint_that_is_there_is_executed_once_more() {
        let (verdicts, told, changes) = mended(guest(&NAME, INT3), &[0, 1, 0, 1, 1]);
        // Each vCPU for itself; after its death, anew.
        assert_eq!(verdicts, [true, true, false, false, true]);
        assert_eq!(
            told.iter().map(|s| (s.vcpu.0, s.replaced)).collect::<Vec<_>>(),
            [(0, false), (1, false), (1, false)]
        );
        assert_eq!(changes.iter().filter(|change| change.starts_with("P10")).count(), 3);
    }

    #[test]
    fn other_deaths_and_what_cannot_be_read_are_left_alone() {
        let without = |at: u64| {
            let mut memory = guest(&NAME, 0x90);
            memory.remove(&at);
            memory
        };
        let left =
            [guest(b"page ", 0x90), without(REGS + IP + 7), without(NAME_AT), without(STACK), without(AT)];
        for (nth, memory) in left.into_iter().enumerate() {
            let (mut gdb, stub) = stub(memory);
            let mut mender = Mender::new(places(), &mut gdb).unwrap();
            assert!(!mender.mend(&mut gdb, &RegLayout::of_test(), &registers(0)).unwrap(), "{nth}");
            drop(gdb);
            assert_eq!((stub.join().unwrap(), mender.take()), (vec!["Z3,1000,8".to_owned()], vec![]));
        }
    }

    #[test]
    fn the_breakpoint_is_there_only_while_it_may_be_needed() {
        let (mut gdb, stub) = stub(Bytes::new());
        let mut mender = Mender::new(places(), &mut gdb).unwrap();
        assert!(
            mender.watches(0x1000)
                && mender.watches(0x1007)
                && !mender.watches(0x1008)
                && !mender.watches(0xfff)
        );
        assert!(!mender.stops_at(DIE) && !mender.is_over());
        assert!(mender.may_have_stopped(0x8000) && mender.may_have_stopped(0x900f));
        assert!(!mender.may_have_stopped(0x8010) && !mender.may_have_stopped(DIE));
        mender.calm(&mut gdb).unwrap();
        mender.alert(&mut gdb).unwrap();
        mender.alert(&mut gdb).unwrap();
        assert!(mender.stops_at(DIE) && !mender.stops_at(0x1000) && !mender.is_over());
        mender.alert = Instant::now().checked_sub(ALERT);
        assert!(mender.is_over());
        mender.calm(&mut gdb).unwrap();
        assert!(!mender.stops_at(DIE) && !mender.is_over());
        drop(gdb);
        assert_eq!(stub.join().unwrap(), ["Z3,1000,8", "Z1,2000,1", "z1,2000,1"]);
    }
}
