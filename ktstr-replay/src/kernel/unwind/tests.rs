//! Stacks made by hand: each kind of unwind entry, and memory that lies.

use proptest::prelude::*;

use super::orc::{Base, OrcTables, kind};
use super::registers::{Area, Registers};
use super::stack::Code;
use super::walk::Walk;
use super::{FrameKind, Stack, StackEnd, Unwinder};
use crate::kernel::{BpfPrograms, JitSymbol, KernelProfile, KernelView};
use crate::testing::memory::Chaos;
use crate::testing::{Guest, Object, SEEDS};
use crate::units::KernelVirt;

/// Length of each function of the kernel made here, in bytes.
const FUNCTION: u64 = 0x100;
/// Bytes of a task's stack.
const STACK: u64 = 0x4000;
/// The format of kernels 7.2 and 7.3 (SHA-1 of its definitions), and its numbers of bases.
const FORMAT: [u8; 20] = [
    0x13, 0x7c, 0x36, 0xad, 0x76, 0x27, 0xc4, 0xdd, 0x55, 0x93, 0x21, 0x76, 0xbb, 0x0e, 0xcd, 0xbd, 0x50,
    0x41, 0xfc, 0x82,
];

/// Fields of an unwind entry: sp_offset, bp_offset, sp_reg, bp_reg, type, signal.
type Entry = (i16, i16, Base, Base, u64, bool);

const NO_BP: (i16, Base) = (0, Base::Undefined);

fn number(base: Base) -> u16 {
    match base {
        Base::Undefined => 0,
        Base::Ax => 1,
        Base::Dx => 2,
        Base::Sp => 3,
        Base::Bp => 4,
        Base::Di => 5,
        Base::R10 => 6,
        Base::R13 => 7,
        Base::PrevSp => 8,
        Base::SpIndirect => 9,
        Base::BpIndirect => 10,
        Base::Unknown(other) => other as u16,
    }
}

/// A frame of `bytes` below the return address, with the caller's frame pointer not touched.
fn plain(bytes: i16) -> Entry {
    (bytes + 8, NO_BP.0, Base::Sp, NO_BP.1, kind::CALL, false)
}

fn end() -> Entry {
    (0, 0, Base::Undefined, Base::Undefined, kind::END_OF_STACK, false)
}

/// A kernel with functions `f0`, `f1`, ..., one unwind entry each, and a task's stack.
struct Made {
    guest: Guest,
    text: u64,
    stack: Area,
    irq: Area,
}

impl Made {
    fn new(seed: u64, entries: &[Entry]) -> Self {
        Self::with_format(seed, entries, FORMAT)
    }

    fn with_format(seed: u64, entries: &[Entry], format: [u8; 20]) -> Self {
        let mut guest = Guest::new(seed);
        let count = entries.len() as u64;
        // A symbol of the same address would be the one that is printed.
        let text = guest.alloc(count * FUNCTION + 64) + 64;
        guest.symbol("_stext", text - 64);
        guest.symbol("_etext", text + count * FUNCTION);
        let header = guest.put(&format);
        guest.symbol("__start_orc_header", header);
        let ips = guest.alloc(count * 4);
        for n in 0..count {
            guest.symbol(&format!("f{n}"), text + n * FUNCTION);
            let at = ips + n * 4;
            guest.write_u32(at, (text + n * FUNCTION).wrapping_sub(at) as u32);
        }
        guest.symbol("__start_orc_unwind_ip", ips);
        guest.symbol("__stop_orc_unwind_ip", ips + count * 4);
        let table = guest.array("orc_entry", count);
        for (entry, (sp_offset, bp_offset, sp_reg, bp_reg, kind, signal)) in table.iter().zip(entries) {
            guest.set_signed(*entry, "sp_offset", (*sp_offset).into());
            guest.set_signed(*entry, "bp_offset", (*bp_offset).into());
            guest.set(*entry, "sp_reg", number(*sp_reg));
            guest.set(*entry, "bp_reg", number(*bp_reg));
            guest.set(*entry, "type", *kind);
            guest.set(*entry, "signal", u64::from(*signal));
        }
        let table_bytes = count * guest.bytes("orc_entry");
        guest.symbol("__start_orc_unwind", table[0].at);
        guest.symbol("__stop_orc_unwind", table[0].at + table_bytes);
        let init = guest.alloc(STACK);
        // As Linux 7.3 calls it, and as 6.1 does.
        let name = ["stack", "task"][(seed % 2) as usize];
        guest.symbol(&format!("__start_init_{name}"), init);
        guest.symbol(&format!("__end_init_{name}"), init + STACK);
        let mut area = |name| {
            let start = guest.alloc(STACK);
            Area { start, end: start + STACK, name }
        };
        let (stack, irq) = (area("task"), area("irq"));
        Self { guest, text, stack, irq }
    }

    /// The middle of a function.
    fn f(&self, n: u64) -> u64 {
        self.text + n * FUNCTION + 0x20
    }

    fn put(&mut self, at: u64, value: u64) {
        self.guest.write_u64(at, value);
    }

    /// `pt_regs` at `at`; each that is not given is a number of its own.
    fn put_regs(&mut self, at: u64, ip: u64, sp: u64, bp: u64, user: bool) {
        let cs = if user { 0x33 } else { 0x10 };
        let others = [("r13", 0x13), ("r10", 0x10), ("ax", 0xa), ("dx", 0xd), ("di", 0xd1), ("flags", 0x202)];
        for (field, value) in
            [("ip", ip), ("sp", sp), ("bp", bp), ("cs", cs), ("ss", 0x18)].iter().chain(&others)
        {
            let offset = self.guest.offset("pt_regs", field);
            self.put(at + offset, *value);
        }
    }

    /// A task that was switched out with its stack pointer at `sp`, in the first function, called by the second.
    fn sleeping(&mut self, sp: u64) -> Object {
        let [returns, bytes] =
            [self.guest.offset("inactive_task_frame", "ret_addr"), self.guest.bytes("inactive_task_frame")];
        self.put(sp + returns, self.f(0));
        self.put(sp + bytes, self.f(1));
        let task = self.guest.add("task_struct");
        self.guest.set(task, "stack", self.stack.start);
        self.guest.set(task, "thread.sp", sp);
        task
    }

    fn unwind(&self, ip: u64, sp: u64, bp: u64) -> Stack {
        self.unwind_with(Registers { ip, sp, bp, ..Registers::default() }, &[])
    }

    fn unwind_with(&self, from: Registers, bpf: &[(u64, u64, &str)]) -> Stack {
        let profile = self.guest.profile();
        let view = KernelView::new(&profile, &self.guest.ram);
        let orc = OrcTables::read(&view).unwrap();
        let symbol = |(from, to, name): &(u64, u64, &str)| JitSymbol {
            start: KernelVirt(*from),
            end: KernelVirt(*to),
            name: (*name).to_owned(),
            program: None,
        };
        let code = Code::new(&view, BpfPrograms::of_symbols(bpf.iter().map(symbol).collect()));
        let areas = [self.stack, self.irq];
        Walk { view: &view, orc: Some(&orc), code: &code, areas: &areas }.run(from, FrameKind::Registers)
    }
}

fn texts(stack: &Stack) -> Vec<String> {
    stack.frames.iter().map(super::Frame::text).collect()
}

fn broken(stack: &Stack) -> &str {
    match &stack.end {
        StackEnd::Broken { reason } => reason,
        other => panic!("the stack ended with {other:?}"),
    }
}

#[test]
fn calls_are_followed_to_the_bottom_and_named_as_the_kernel_does() {
    for seed in SEEDS {
        let mut made = Made::new(seed, &[plain(16), plain(0), end()]);
        let sp = made.stack.start + 0x1000;
        made.put(sp + 16, made.f(1));
        made.put(sp + 24, made.f(2));
        let stack = made.unwind(made.f(0), sp, 0);
        assert_eq!(texts(&stack), ["f0+0x20/0x100", "f1+0x20/0x100", "f2+0x20/0x100"]);
        assert_eq!(stack.end, StackEnd::Bottom);
        assert_eq!(stack.frames[2].sp, KernelVirt(sp + 32));
    }
}

#[test]
fn a_return_address_just_past_a_function_belongs_to_that_function() {
    for seed in SEEDS {
        let mut made = Made::new(
            seed,
            &[plain(0), end(), (0, 0, Base::Undefined, Base::Undefined, kind::UNDEFINED, false)],
        );
        let sp = made.stack.start + 0x1000;
        let past = made.text + 2 * FUNCTION;
        made.put(sp, past);
        let stack = made.unwind(made.f(0), sp, 0);
        assert_eq!(texts(&stack), ["f0+0x20/0x100", "f1+0x100/0x100"]);
        assert_eq!(stack.end, StackEnd::Bottom);
    }
}

#[test]
fn frame_pointers_and_indirect_places_are_followed() {
    for seed in SEEDS {
        // f0 keeps its caller's frame pointer; f1's frame is relative to it; f2's place is in the word at its stack pointer; f3's
        // in the word below its frame pointer.
        let made = &mut Made::new(
            seed,
            &[
                (16, -16, Base::Sp, Base::PrevSp, kind::CALL, false),
                (16, -16, Base::Bp, Base::PrevSp, kind::CALL, false),
                (16, 0, Base::SpIndirect, Base::Undefined, kind::CALL, false),
                (-8, 0, Base::BpIndirect, Base::Bp, kind::CALL, false),
                end(),
            ],
        );
        let sp = made.stack.start + 0x1000;
        let [bp1, bp2] = [sp + 0x100, sp + 0x400];
        let words = [
            (sp, bp1),
            (sp + 8, made.f(1)),
            (bp1, bp2),
            (bp1 + 8, made.f(2)),
            // Where f2's caller is, less 16.
            (bp1 + 16, sp + 0x200),
            (sp + 0x208, made.f(3)),
            (bp2 - 8, sp + 0x300),
            (sp + 0x2f8, made.f(4)),
            (bp2, 0x77),
        ];
        for (at, word) in words {
            made.put(at, word);
        }
        let stack = made.unwind(made.f(0), sp, 0);
        let expected: Vec<_> = (0..5).map(|n| format!("f{n}+0x20/0x100")).collect();
        assert_eq!((texts(&stack), &stack.end), (expected, &StackEnd::Bottom));
    }
}

#[test]
fn an_interrupt_leads_from_its_stack_to_what_it_came_upon() {
    for seed in SEEDS {
        let made = &mut Made::new(
            seed,
            &[
                plain(0),
                (0, 0, Base::Sp, Base::Undefined, kind::REGS, true),
                // Only known from what the interrupt saved.
                (0, 0, Base::R10, Base::Undefined, kind::CALL, false),
                end(),
            ],
        );
        let (irq, task) = (made.irq.start + 0x2000, made.stack.start + 0x1000);
        made.put(irq, made.f(1));
        made.put_regs(irq + 8, made.f(2), task, 0x55, false);
        let r10 = made.guest.offset("pt_regs", "r10");
        made.put(irq + 8 + r10, task + 0x40);
        made.put(task + 0x38, made.f(3));
        let stack = made.unwind(made.f(0), irq, 0);
        let mut lines = stack.lines();
        assert_eq!(lines.remove(0), "<irq>");
        assert_eq!(
            lines,
            ["f0+0x20/0x100", "f1+0x20/0x100", "</irq>", "f2+0x20/0x100  (interrupted)", "f3+0x20/0x100"]
        );
        assert_eq!(stack.end, StackEnd::Bottom);
    }
}

#[test]
fn an_entry_from_user_space_is_the_end() {
    for seed in SEEDS {
        for partial in [false, true] {
            let kind = if partial { kind::REGS_PARTIAL } else { kind::REGS };
            // A partial entry points at the five words that the CPU pushes.
            let skip = if partial { 48 } else { 0 };
            let made = &mut Made::new(seed, &[(skip, 0, Base::Sp, Base::Undefined, kind, true)]);
            let sp = made.stack.end - 88;
            made.put_regs(sp, 0x4000_1234, 0x7fff_0000, 0, true);
            let stack = made.unwind(made.f(0), sp, 0);
            assert_eq!(stack.end, StackEnd::User { ip: 0x4000_1234, sp: 0x7fff_0000 }, "partial: {partial}");
            assert_eq!(stack.frames.len(), 1);
        }
    }
}

#[test]
fn bpf_code_is_followed_by_its_frame_pointer_and_has_its_name() {
    for seed in SEEDS {
        let made = &mut Made::new(seed, &[plain(0), end()]);
        let code = made.guest.alloc(0x80);
        let sp = made.stack.start + 0x1000;
        let bp = sp + 0x40;
        made.put(sp, code + 0x30);
        made.put(bp, 0x77);
        made.put(bp + 8, made.f(1));
        let from = Registers { ip: made.f(0), sp, bp, ..Registers::default() };
        let stack = made.unwind_with(from, &[(code, code + 0x80, "bpf_prog_0123_dispatch")]);
        assert_eq!(texts(&stack), ["f0+0x20/0x100", "bpf_prog_0123_dispatch+0x30/0x80", "f1+0x20/0x100"]);
        assert_eq!(stack.frames[1].kind, FrameKind::Bpf);
        assert_eq!(stack.end, StackEnd::Bottom);
    }
}

/// A program of a 7.3 kernel as its compiler makes them, with each instruction that it can be stopped at: its offset, and by
/// how much the stack pointer and whether the frame pointer differ from what they were on entry.
fn steps_of_bpf(thunk: bool) -> (Vec<u8>, Vec<(u64, u64, bool)>) {
    let mut code = Vec::new();
    let mut steps = Vec::new();
    let mut add = |bytes: &[u8], sp: u64, framed: bool| {
        steps.push((code.len() as u64, sp, framed));
        code.extend_from_slice(bytes);
    };
    add(b"\xf3\x0f\x1e\xfa", 0, false); // endbr64
    add(b"\x0f\x1f\x44\0\0", 0, false); // nop
    add(b"\x0f\x1f\0", 0, false); // nop
    add(b"\x55", 0, false); // push %rbp
    add(b"\x48\x89\xe5", 8, false); // mov %rsp,%rbp
    add(b"\xf3\x0f\x1e\xfa", 8, true); // endbr64
    add(b"\x48\x81\xec\x08\0\0\0", 8, true); // sub $8,%rsp
    add(b"\x53", 0x10, true); // push %rbx
    add(b"\x31\xc0", 0x18, true); // xor %eax,%eax
    add(b"\x5b", 0x18, true); // pop %rbx
    add(b"\xc9", 0x10, true); // leave
    // ret, or a jump whose distance the caller puts there.
    add(if thunk { b"\xe9\0\0\0\0\xcc" } else { b"\xc3\xcc" }, 0, false);
    (code, steps)
}

#[test]
fn the_caller_of_bpf_code_is_found_at_each_of_its_instructions() {
    for (seed, thunk) in SEEDS.flat_map(|seed| [(seed, false), (seed, true)]) {
        let made = &mut Made::new(seed, &[plain(0), end()]);
        let (mut code, steps) = steps_of_bpf(thunk);
        let at = made.guest.alloc(0x80);
        if thunk {
            let to = made.f(0) + 0x40;
            made.guest.symbol("__x86_return_thunk", to);
            let end = code.len() - 1;
            let distance = to.wrapping_sub(at + end as u64) as u32;
            code[end - 4..end].copy_from_slice(&distance.to_le_bytes());
        }
        made.guest.write(at, &code);
        let symbol = (at, at + code.len() as u64, "bpf_prog_0123_init");
        // On entry: the return address, and a frame pointer that is the caller's own business.
        let (entry, callers_bp) = (made.stack.start + 0x1000, 0x77);
        made.put(entry, made.f(0));
        made.put(entry + 8, made.f(1));
        made.put(entry - 8, callers_bp);
        for (offset, down, framed) in steps {
            let bp = if framed { entry - 8 } else { callers_bp };
            let from = Registers { ip: at + offset, sp: entry - down, bp, ..Registers::default() };
            let stack = made.unwind_with(from, &[symbol]);
            let name = format!("bpf_prog_0123_init+{offset:#x}/{:#x}", code.len());
            let f0 = if thunk { "f0+0x20/0x60" } else { "f0+0x20/0x100" };
            assert_eq!(texts(&stack), [name.as_str(), f0, "f1+0x20/0x100"], "seed {seed}");
            assert_eq!(stack.end, StackEnd::Bottom);
        }
    }
}

#[test]
fn a_caller_that_bpf_code_does_not_prove_is_a_guess() {
    for seed in SEEDS {
        let made = &mut Made::new(seed, &[plain(0), end()]);
        let sp = made.stack.start + 0x1000;
        made.put(sp + 0x20, made.f(1));
        let code = made.guest.put(b"\x48\x81\xfa\0\0\0\0\x0f\x84");
        // Code that begins in another way, and code that is not there.
        for (start, why) in [(code, "does not begin with a frame pointer"), (0x1000, "the code of bpf_odd: ")]
        {
            let from = Registers { ip: start, sp, bp: sp + 0x40, ..Registers::default() };
            let stack = made.unwind_with(from, &[(start, start + 0x40, "bpf_odd")]);
            assert_eq!(texts(&stack), ["bpf_odd+0x0/0x40", "? f1+0x20/0x100"], "{why}");
            assert!(broken(&stack).contains(why), "{}", broken(&stack));
        }
    }
}

#[test]
fn a_call_of_a_null_pointer_shows_its_caller() {
    for seed in SEEDS {
        let made = &mut Made::new(seed, &[end()]);
        let sp = made.stack.start + 0x1000;
        made.put(sp, made.f(0));
        let stack = made.unwind(0, sp, 0);
        assert_eq!(texts(&stack), ["0x0", "f0+0x20/0x100"]);
    }
}

#[test]
fn where_the_tables_say_nothing_the_reason_is_given_and_the_rest_are_guesses() {
    for seed in SEEDS {
        let undefined = (0, 0, Base::Undefined, Base::Undefined, kind::UNDEFINED, false);
        let made = &mut Made::new(seed, &[plain(0), undefined, end()]);
        let sp = made.stack.start + 0x1000;
        made.put(sp, made.f(1));
        made.put(sp + 0x88, made.f(2));
        // The first byte of a function is an address that was taken, not one to return to.
        made.put(sp + 0x90, made.text);
        let stack = made.unwind(made.f(0), sp, 0);
        assert_eq!(texts(&stack), ["f0+0x20/0x100", "f1+0x20/0x100", "? f2+0x20/0x100"]);
        assert_eq!(broken(&stack), "the kernel has no unwind entry for f1+0x20/0x100");
    }
}

#[test]
fn a_stack_that_goes_in_circles_is_cut() {
    for seed in SEEDS {
        // f0 says that its caller is below it.
        let made = &mut Made::new(seed, &[(-0x20, 0, Base::Sp, Base::Undefined, kind::CALL, false), end()]);
        let sp = made.stack.start + 0x1000;
        made.put(sp - 0x28, made.f(1));
        assert!(broken(&made.unwind(made.f(0), sp, 0)).contains("wrong direction"));

        // From the task's stack to that of interrupts, and back.
        let regs = (0, 0, Base::Sp, Base::Undefined, kind::REGS, true);
        let made = &mut Made::new(seed, &[regs]);
        let (irq, task) = (made.irq.start + 0x100, made.stack.start + 0x100);
        made.put_regs(task, made.f(0), irq, 0, false);
        made.put_regs(irq, made.f(0), task, 0, false);
        assert!(broken(&made.unwind(made.f(0), task, 0)).contains("leads back to the task stack"));
    }
}

#[test]
fn places_on_no_stack_and_registers_that_were_not_saved_are_named() {
    for seed in SEEDS {
        let made = &mut Made::new(seed, &[(16, 0, Base::Bp, Base::Undefined, kind::CALL, false)]);
        let sp = made.stack.start + 0x1000;
        assert!(broken(&made.unwind(made.f(0), sp, 0x2684)).contains("on no stack that is known"));
        assert!(broken(&made.unwind(made.f(0), 0x1000, 0)).contains("stack pointer 0x1000"));
        let made = &mut Made::new(seed, &[(0, 0, Base::R13, Base::Undefined, kind::CALL, false)]);
        assert!(broken(&made.unwind(made.f(0), sp, 0)).contains("relative to r13, which was not saved"));
        let made = &mut Made::new(seed, &[(0, 0, Base::Unknown(12), Base::Undefined, kind::CALL, false)]);
        assert!(broken(&made.unwind(made.f(0), sp, 0)).contains("Unknown(12)"));
    }
}

#[test]
fn tables_of_a_format_that_is_not_known_are_refused_by_its_hash() {
    for seed in SEEDS {
        let made = Made::with_format(seed, &[end()], [0xab; 20]);
        let profile = made.guest.profile();
        let view = KernelView::new(&profile, &made.guest.ram);
        let error = OrcTables::read(&view).err().unwrap().to_string();
        assert!(error.contains(&"ab".repeat(20)), "{error}");
    }
}

#[test]
fn a_task_that_sleeps_is_unwound_from_where_it_was_switched_out() {
    for seed in SEEDS {
        let made = &mut Made::new(seed, &[plain(0), end()]);
        let sp = made.stack.start + 0x1000;
        let task = made.sleeping(sp);
        let profile = made.guest.profile();
        let view = KernelView::new(&profile, &made.guest.ram);
        let unwinder = Unwinder::new(&view, &[]);
        let (cpu, stack) = unwinder.task(KernelVirt(task.at));
        assert_eq!(
            (cpu, texts(&stack)),
            (None, vec!["f0+0x20/0x100".to_owned(), "f1+0x20/0x100".to_owned()])
        );
        made.guest.set(task, "thread.sp", 0x1234u32);
        let view = KernelView::new(&profile, &made.guest.ram);
        let unwinder = Unwinder::new(&view, &[]);
        assert!(broken(&unwinder.task(KernelVirt(task.at)).1).contains("not on its stack"));
    }
}

/// The types and symbols of a made kernel, for memory that is not its own.
fn profile(seed: u64) -> (KernelProfile, Area, u64) {
    let made = Made::new(seed, &[plain(0), end()]);
    (made.guest.profile(), made.stack, made.text)
}

proptest! {
    /// Tables and stacks of random bytes end, with frames within their bound.
    #[test]
    fn random_memory_is_unwound_to_an_end(
        seed in SEEDS,
        words in proptest::collection::vec(any::<u64>(), 1..200),
        picks in proptest::collection::vec((0u64..0x4000, 0u64..8), 1..200),
        regs in any::<[u64; 3]>(),
        inside in any::<bool>(),
    ) {
        let base = |n: u64| [Base::Sp, Base::Bp, Base::SpIndirect, Base::BpIndirect, Base::PrevSp, Base::R10, Base::Unknown(15), Base::Undefined][n as usize % 8];
        let entries: Vec<Entry> = picks.iter().map(|(offset, n)| {
            let number = words[*n as usize % words.len()];
            ((offset % 200) as i16 - 20, (number % 100) as i16 - 50, base(*n), base(number), number % 8, number & 8 != 0)
        }).collect();
        let made = &mut Made::new(seed, &entries);
        for (n, (offset, which)) in picks.iter().enumerate() {
            // Text, stack, or anything.
            let word = words[n % words.len()];
            let value = match which % 3 {
                0 => made.text + word % (entries.len() as u64 * FUNCTION),
                1 => made.stack.start + word % STACK,
                _ => word,
            };
            made.put(made.stack.start + (offset & !7).min(STACK - 8), value);
        }
        let [ip, sp, bp] = regs;
        let stack = if inside {
            made.unwind(made.text + ip % (entries.len() as u64 * FUNCTION), made.stack.start + sp % STACK, made.stack.start + bp % STACK)
        } else {
            made.unwind(ip, sp, bp)
        };
        prop_assert!(stack.frames.len() <= 256 + 32);
        prop_assert!(!stack.lines().is_empty());
    }

}

proptest! {
    // Each case walks a list of BPF code that has no end, up to its bound.
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A task in memory where every word is a number of its address.
    #[test]
    fn hostile_memory_is_no_danger(layout in SEEDS, seed in any::<u64>(), task in any::<u64>()) {
        let (profile, stack, text) = profile(layout);
        let chaos = Chaos(seed);
        let view = KernelView::new(&profile, &chaos);
        let unwinder = Unwinder::new(&view, &[]);
        for at in [task, stack.start, text] {
            let (_, stack) = unwinder.task(KernelVirt(at));
            prop_assert!(matches!(stack.end, StackEnd::Broken { .. }), "{:?}", stack.end);
        }
    }
}
