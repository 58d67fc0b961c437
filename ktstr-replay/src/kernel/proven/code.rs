//! Instructions of BPF programs as the kernel keeps them after its verifier changed them.
//!
//! Sources: `include/uapi/linux/bpf.h`, `include/linux/filter.h`, `jit_subprogs` of `kernel/bpf/fixups.c` (`verifier.c` before 7.0)
//! of Linux.

/// Bytes of an instruction.
pub(super) const INSN_BYTES: usize = 8;
/// Registers: those of programs, the frame pointer with them, and the one that the verifier has for itself (`BPF_REG_AX`).
pub(super) const REGISTERS: usize = 12;
/// The frame pointer.
pub(super) const FRAME: usize = 10;
/// Registers in which a function is given its arguments, from 1 on.
pub(super) const ARGUMENTS: usize = 5;

/// `BPF_PSEUDO_CALL`, in the source register of a call: it is of a function of the program.
const CALL_OF_PROGRAM: usize = 1;
/// `BPF_PSEUDO_FUNC`, in the source register of a wide load: a function's address.
const ADDRESS_OF_FUNCTION: usize = 4;
/// `BPF_ADDR_SPACE_CAST`, in the offset of a move: between the two forms of a pointer into an arena.
const ADDRESS_SPACE: i16 = 1;

/// One instruction of 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Insn {
    pub code: u8,
    pub dst: usize,
    pub src: usize,
    pub off: i16,
    pub imm: i32,
}

/// Where control goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To the one after it.
    On,
    /// To another, so many instructions after the next.
    Jump(i32),
    /// To the next, or to another.
    Branch(i32),
    /// Back to the caller.
    Return,
    /// To wherever a register says (`gotox`).
    Anywhere,
}

/// On which way after a comparison its register is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NullWhere {
    Taken,
    NotTaken,
}

/// What an instruction does, as far as pointers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Copies a register, or one form of a pointer into an arena into the other.
    Move { dst: usize, src: usize },
    /// Copies the lower half of a register: a cast into the kernel's form of such a pointer, or a number of 32 bits.
    MoveHalf { dst: usize, src: usize },
    /// Puts 0 into a register.
    Zero { dst: usize },
    /// Adds a constant.
    Add { dst: usize, by: i32 },
    /// Makes a number of a register and of one other.
    Compute { dst: usize, src: Option<usize> },
    /// Takes both halves of a wide constant; the next instruction is a part of it.
    Wide { dst: usize },
    /// Takes the address of a function; likewise.
    FunctionAddress { dst: usize },
    /// Reads memory.
    Load { dst: usize, base: usize, off: i16, bytes: u8, plain: bool },
    /// Writes a register (`None`: a constant) to memory.
    Store { base: usize, off: i16, bytes: u8, value: Option<usize> },
    /// Changes memory in one step; `fetched` is the register that gets what was there.
    Atomic { base: usize, off: i16, bytes: u8, fetched: Option<usize> },
    /// Calls a function of the program.
    Call,
    /// Calls a function of the kernel.
    KernelCall,
    /// Goes to another program, which returns in the place of this one; on to the next instruction where there is none.
    TailCall,
    /// Nothing to registers: jumps.
    Nothing,
}

impl Insn {
    /// Out of memory.
    pub(super) fn decode(bytes: &[u8; INSN_BYTES]) -> Self {
        let [code, registers, off0, off1, imm0, imm1, imm2, imm3] = *bytes;
        Self {
            code,
            dst: usize::from(registers & 0xf).min(REGISTERS - 1),
            src: usize::from(registers >> 4).min(REGISTERS - 1),
            off: i16::from_le_bytes([off0, off1]),
            imm: i32::from_le_bytes([imm0, imm1, imm2, imm3]),
        }
    }

    fn is_jump(self) -> bool {
        matches!(self.code & 7, 5 | 6)
    }

    pub(super) fn next(self) -> Next {
        match (self.code & 7, self.code & 0xf0) {
            (5, 0x90) => Next::Return,
            // A call, or a tail call.
            (5 | 6, 0x80) | (5, 0xf0) => Next::On,
            (5, 0) if self.code & 8 != 0 => Next::Anywhere,
            (5, 0) => Next::Jump(self.off.into()),
            (6, 0) => Next::Jump(self.imm),
            (5 | 6, _) => Next::Branch(self.off.into()),
            _ => Next::On,
        }
    }

    /// For a comparison of 64 bits with 0: where the register is 0.
    pub(super) fn null_where(self) -> Option<NullWhere> {
        match (self.code, self.imm) {
            (0x15, 0) => Some(NullWhere::Taken),
            (0x55, 0) => Some(NullWhere::NotTaken),
            _ => None,
        }
    }

    pub(super) fn does(self) -> Does {
        let (dst, src) = (self.dst, self.src);
        let bytes = match self.code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        };
        let by_register = self.code & 8 != 0;
        match (self.code & 7, self.code & 0xf0) {
            (5 | 6, 0x80) if src == CALL_OF_PROGRAM && !by_register => Does::Call,
            (5 | 6, 0x80) => Does::KernelCall,
            (5, 0xf0) => Does::TailCall,
            _ if self.is_jump() => Does::Nothing,
            // A 32-bit move is what the verifier makes of a cast into the kernel's form: what is loaded through it takes the
            // lower half.
            (4, 0xb0) if by_register && self.off == 0 => Does::MoveHalf { dst, src },
            (7, 0xb0) if by_register && (self.off == 0 || self.off == ADDRESS_SPACE) => {
                Does::Move { dst, src }
            }
            (4 | 7, 0xb0) if !by_register && self.imm == 0 => Does::Zero { dst },
            (4 | 7, 0xb0) => Does::Compute { dst, src: by_register.then_some(src) },
            (4 | 7, 0x00) if !by_register => Does::Add { dst, by: self.imm },
            // Swapping bytes has no other register: the bit says in which order.
            (4 | 7, 0xd0) => Does::Compute { dst, src: None },
            (4 | 7, _) => Does::Compute { dst, src: by_register.then_some(src) },
            _ if self.code == 0x18 && src == ADDRESS_OF_FUNCTION => Does::FunctionAddress { dst },
            _ if self.code == 0x18 => Does::Wide { dst },
            // What is left of them reads packets.
            (0, _) => Does::Compute { dst: 0, src: None },
            (1, _) => {
                // `BPF_MEM`, and what the verifier makes of it: `BPF_PROBE_MEM`, `BPF_PROBE_MEM32`. The rest extends signs.
                let plain = matches!(self.code & 0xe0, 0x60 | 0x20 | 0xa0);
                Does::Load { dst, base: src, off: self.off, bytes, plain }
            }
            // `BPF_NOSPEC`, which the verifier puts in, touches nothing.
            (2, _) if self.code & 0xe0 == 0xc0 => Does::Nothing,
            (2, _) => Does::Store { base: dst, off: self.off, bytes, value: None },
            // `BPF_ATOMIC`, `BPF_PROBE_ATOMIC`.
            (_, _) if matches!(self.code & 0xe0, 0xc0 | 0xe0) => {
                let fetched = match self.imm {
                    // `BPF_CMPXCHG`
                    0xf1 => Some(0),
                    // `BPF_LOAD_ACQ`
                    0x100 => Some(dst),
                    imm if imm & 1 != 0 => Some(src),
                    _ => None,
                };
                // Of `BPF_LOAD_ACQ` the address is in the other register.
                let base = if self.imm == 0x100 { src } else { dst };
                Does::Atomic { base, off: self.off, bytes, fetched }
            }
            _ => Does::Store { base: dst, off: self.off, bytes, value: Some(src) },
        }
    }

    /// The registers that it reads, for what a function does with its arguments.
    pub(super) fn reads(self, register: usize) -> bool {
        match self.does() {
            Does::Move { src, .. } | Does::MoveHalf { src, .. } => src == register,
            Does::Add { dst, .. } => dst == register,
            // A move of a constant reads nothing.
            Does::Compute { dst, src } => {
                src == Some(register) || dst == register && self.code & 0xf0 != 0xb0
            }
            Does::Load { base, .. } => base == register,
            Does::Store { base, value, .. } => base == register || value == Some(register),
            // `BPF_LOAD_ACQ` only writes its first register.
            Does::Atomic { fetched, .. } => {
                self.dst == register && fetched != Some(self.dst) || self.src == register
            }
            Does::Call | Does::KernelCall | Does::TailCall => (1..=ARGUMENTS).contains(&register),
            Does::Nothing => match self.next() {
                Next::Branch(_) => self.dst == register || self.code & 8 != 0 && self.src == register,
                // What a function returns is read by its caller, if by anybody.
                _ => false,
            },
            Does::Zero { .. } | Does::Wide { .. } | Does::FunctionAddress { .. } => false,
        }
    }

    /// Whether a register has another value after it.
    pub(super) fn writes(self, register: usize) -> bool {
        match self.does() {
            Does::Move { dst, .. }
            | Does::MoveHalf { dst, .. }
            | Does::Zero { dst }
            | Does::Add { dst, .. }
            | Does::Compute { dst, .. }
            | Does::Wide { dst }
            | Does::FunctionAddress { dst }
            | Does::Load { dst, .. } => dst == register,
            Does::Atomic { fetched, .. } => fetched == Some(register),
            Does::Call | Does::KernelCall | Does::TailCall => register <= ARGUMENTS,
            Does::Store { .. } | Does::Nothing => false,
        }
    }
}

/// A function of a program: its instructions, by their numbers, and its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub from: usize,
    pub until: usize,
    /// Number of its `BTF_KIND_FUNC`.
    pub type_id: u32,
}

/// The function that the call at `at` goes to. The kernel leaves the distance and the function's number in two fields, which kernels
/// before 7.0 have the other way round; both have to agree.
pub(super) fn callee(insn: Insn, at: usize, functions: &[Function]) -> Option<usize> {
    let of = |distance: i64, number: i64| {
        let number = usize::try_from(number).ok()?;
        let target = usize::try_from(i64::try_from(at).ok()? + 1 + distance).ok()?;
        (functions.get(number)?.from == target).then_some(number)
    };
    let (off, imm) = (i64::from(insn.off), i64::from(insn.imm));
    of(imm, off).or_else(|| of(off, imm))
}
