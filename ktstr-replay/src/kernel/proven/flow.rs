//! What the registers of a BPF program hold, as far as that comes out of a map's value: followed through its instructions, over all
//! ways through each function, and through calls.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::code::{ARGUMENTS, Does, FRAME, Function, Insn, Next, NullWhere, REGISTERS, callee};
use super::uses::{Use, reads_all, use_of_result};

/// 8-byte slots of a stack of 512 bytes.
const SLOTS: usize = 64;
/// Most passes over all functions until nothing changes.
const MAX_ROUNDS: usize = 64;
/// Most places in a function where ways meet: each takes 2 KiB.
const MAX_HEADS: usize = 1 << 14;
/// Instructions that copying the state at such a place counts for.
const STEPS_OF_STATE: usize = 16;

/// What a register or a slot of the stack holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing yet: no way leads here.
    #[default]
    Never,
    /// Nobody can say.
    Unknown,
    /// 0, which may stand for a pointer.
    Null,
    /// The address of a map.
    Map(u32),
    /// An address in the value of an entry of a map.
    Value { map: u32, at: i64 },
    /// What 8 bytes of such a value held, and so many bytes on.
    Word { map: u32, at: i64, plus: i64 },
    /// A pointer to a struct of that number, by the type of the function that was given it, or returned it.
    Typed { id: u32, function: usize },
    /// An address of the function's own stack: distance from its end.
    Stack(i64),
    /// One whose distance nobody can say.
    SomeStack,
}

impl Held {
    /// What is held where two ways meet.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (one, two) if one == two => one,
            (Self::Never, one) | (one, Self::Never) => one,
            (Self::Null, one @ (Self::Word { .. } | Self::Value { .. } | Self::Typed { .. }))
            | (one @ (Self::Word { .. } | Self::Value { .. } | Self::Typed { .. }), Self::Null) => one,
            (Self::Stack(_) | Self::SomeStack, _) | (_, Self::Stack(_) | Self::SomeStack) => Self::SomeStack,
            _ => Self::Unknown,
        }
    }

    fn plus(self, by: i64) -> Self {
        match self {
            Self::Value { map, at } => Self::Value { map, at: at.saturating_add(by) },
            Self::Word { map, at, plus } => Self::Word { map, at, plus: plus.saturating_add(by) },
            Self::Stack(at) => Self::Stack(at.saturating_add(by)),
            Self::SomeStack => Self::SomeStack,
            Self::Never => Self::Never,
            _ => Self::Unknown,
        }
    }

    fn is_stack(self) -> bool {
        matches!(self, Self::Stack(_) | Self::SomeStack)
    }

    /// The lower half of it. A word of a map's value stays one: that is how it is cast into the kernel's form. Of a pointer to a struct
    /// it may be no more than a number.
    fn half(self) -> Self {
        match self {
            Self::Never | Self::Null | Self::Word { .. } => self,
            Self::Stack(_) | Self::SomeStack => Self::SomeStack,
            _ => Self::Unknown,
        }
    }

    /// What a slot holds that may have been written over with `by`: an address of the stack, if either is one. What is written by way
    /// of it must not be missed.
    fn doubted(self, by: Self) -> Self {
        if self.is_stack() || by.is_stack() { Self::SomeStack } else { Self::Unknown }
    }
}

/// Registers and stack at one instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    registers: [Held; REGISTERS],
    slots: [Held; SLOTS],
}

impl State {
    fn entered(arguments: &[Held; ARGUMENTS]) -> Self {
        let mut registers = [Held::Unknown; REGISTERS];
        registers[1..=ARGUMENTS].copy_from_slice(arguments);
        registers[FRAME] = Held::Stack(0);
        Self { registers, slots: [Held::Unknown; SLOTS] }
    }

    /// Take in what another way brings; whether that changed anything.
    fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        let mine = self.registers.iter_mut().chain(&mut self.slots);
        for (mine, theirs) in mine.zip(other.registers.iter().chain(&other.slots)) {
            let joined = mine.join(*theirs);
            changed |= joined != *mine;
            *mine = joined;
        }
        changed
    }

    fn register(&self, number: usize) -> Held {
        self.registers.get(number).copied().unwrap_or(Held::Unknown)
    }

    fn set(&mut self, number: usize, held: Held) {
        if let Some(register) = self.registers.get_mut(number) {
            *register = held;
        }
    }

    /// The slot of an address of the stack, and whether the address is its beginning.
    fn slot(at: i64) -> Option<(usize, bool)> {
        let from_bottom = at.checked_add(SLOTS as i64 * 8)?;
        let slot = usize::try_from(from_bottom.div_euclid(8)).ok().filter(|slot| *slot < SLOTS)?;
        Some((slot, from_bottom.rem_euclid(8) == 0))
    }

    /// Something was written to the stack, of which `held` are 8 bytes at the beginning of a slot.
    fn write_stack(&mut self, base: Held, off: i16, bytes: u8, held: Held) {
        match base {
            Held::Stack(at) => {
                let at = at.saturating_add(off.into());
                let ends = [at, at.saturating_add(i64::from(bytes) - 1)].map(Self::slot);
                let whole = bytes == 8 && ends[0].is_some_and(|(_, is_begin)| is_begin);
                for (slot, _) in ends.into_iter().flatten() {
                    self.slots[slot] = if whole { held } else { Held::Unknown };
                }
            }
            Held::SomeStack => self.doubt(0, held),
            _ => {}
        }
    }

    /// Slots from one on may have been written over with `by`.
    fn doubt(&mut self, first: usize, by: Held) {
        for slot in &mut self.slots[first..] {
            *slot = slot.doubted(by);
        }
    }

    /// The stack was lent out from an address on: what is above it may be anything; and all of it, if there are addresses of the stack
    /// among what was lent.
    fn lend(&mut self, held: Held) {
        let first = match held {
            Held::Stack(at) => Self::slot(at).map_or(0, |(slot, _)| slot),
            Held::SomeStack => 0,
            _ => return,
        };
        let hands_on = self.slots[first..].iter().any(|slot| slot.is_stack());
        self.doubt(if hands_on { 0 } else { first }, Held::Unknown);
    }
}

/// A program as it is followed.
pub(super) struct Code<'c> {
    pub insns: &'c [Insn],
    /// Ascending; the first one is the program itself.
    pub functions: &'c [Function],
    /// Maps by the address that the program has of them.
    pub maps: &'c dyn Fn(u64) -> Option<u32>,
    /// Whether the function of the kernel that a call goes to gives the value of an entry of the map that it is given.
    pub finds_value: &'c dyn Fn(Insn) -> bool,
    /// How many instructions may still be looked at. A trace is not trusted: where it is none, nothing is found.
    pub steps: &'c Cell<usize>,
    /// What each function is given and returns: numbers of structs that the words point at, by its type.
    pub signatures: &'c [Signature],
}

impl Code<'_> {
    /// Take instructions off those that may be looked at.
    pub(super) fn charge(&self, steps: usize) {
        self.steps.set(self.steps.get().saturating_sub(steps));
    }
}

/// The words that a function is given and returns that are pointers to structs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signature {
    pub parameters: Vec<Option<u32>>,
    pub returns: Option<u32>,
}

/// Where a type meets what came out of a map's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Met {
    /// The function of that number returns it.
    Returned { function: usize },
    /// The function is given it, as its parameter of that number.
    Given { function: usize, parameter: usize },
    /// It is written there; the function's type says what it is.
    Written { function: usize },
}

/// Which struct a word of a map's value points at, and where that is seen: by map, offset and struct.
pub(super) type Seen = BTreeMap<(u32, u32), BTreeMap<u32, Met>>;
/// Offsets and sizes of what is read and written through such a word.
pub(super) type Reached = BTreeMap<(u32, u32), BTreeSet<(i64, u8)>>;

/// What following a program found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub seen: Seen,
    pub reached: Reached,
}

/// Follow a program; `None` where that comes to no end, or some way through it is not known.
pub(super) fn follow(code: &Code<'_>) -> Option<Found> {
    // That of looking at each instruction by itself, whether a way leads there or not.
    code.charge(code.insns.len());
    if code.insns.iter().any(|insn| insn.next() == Next::Anywhere) {
        return None;
    }
    let mut all = All::new(code);
    for _ in 0..MAX_ROUNDS {
        let before = (all.arguments.clone(), all.returned.clone());
        for number in 0..code.functions.len() {
            all.function(number, None);
        }
        if all.is_out() {
            return None;
        }
        if before == (all.arguments.clone(), all.returned.clone()) {
            let mut found = Found::default();
            for number in 0..code.functions.len() {
                all.function(number, Some(&mut found));
            }
            return (!all.is_out()).then_some(found);
        }
    }
    None
}

struct All<'c> {
    code: &'c Code<'c>,
    /// By function: what its arguments are, over all calls.
    arguments: Vec<[Held; ARGUMENTS]>,
    /// By function: what it returns, over all ways.
    returned: Vec<Held>,
    /// By function: every parameter of its type is read, so that the compiler has left none out and they are in their registers.
    reads_all: Vec<bool>,
    /// By function: somebody reads what it returns, so that the compiler has not left that out.
    is_used: Vec<bool>,
}

impl<'c> All<'c> {
    fn new(code: &'c Code<'c>) -> Self {
        let count = code.functions.len();
        let mut arguments = vec![[Held::Never; ARGUMENTS]; count];
        let mut is_used = vec![false; count];
        let mut called = vec![false; count];
        // Functions that return at once what another returns to them, with that one.
        let mut handed_on = Vec::new();
        for (caller, function) in code.functions.iter().enumerate() {
            for at in steps(code.insns, function) {
                let Some(insn) = code.insns.get(at) else { continue };
                if insn.does() != Does::Call {
                    continue;
                }
                if let Some(number) = callee(*insn, at, code.functions) {
                    called[number] = true;
                    match use_of_result(code, function, at + 1) {
                        Use::Read => is_used[number] = true,
                        Use::Returned => handed_on.push((caller, number)),
                        Use::None => {}
                    }
                }
            }
        }
        // The end of a function that returns nothing looks the same: what is handed on is used only if somebody uses it.
        loop {
            code.charge(handed_on.len());
            let before = handed_on.len();
            handed_on.retain(|&(caller, number)| {
                is_used[number] = is_used[number] || is_used[caller];
                !is_used[number]
            });
            if handed_on.len() == before || code.steps.get() == 0 {
                break;
            }
        }
        // What is called by nobody is called by the kernel. A function whose address is taken is not among those that the program
        // calls, unless it is both.
        let has_addresses = code.insns.iter().any(|insn| matches!(insn.does(), Does::FunctionAddress { .. }));
        for (number, arguments) in arguments.iter_mut().enumerate() {
            if number == 0 || !called[number] || has_addresses {
                *arguments = [Held::Unknown; ARGUMENTS];
            }
        }
        let typed = code.functions.iter().zip(code.signatures);
        let reads_all = typed.map(|(function, signature)| reads_all(code, function, signature)).collect();
        Self { code, arguments, returned: vec![Held::Never; count], reads_all, is_used }
    }

    /// Count instructions that are looked at.
    fn charge(&self, steps: usize) {
        self.code.charge(steps);
    }

    /// No more may be looked at: what was found is not whole.
    fn is_out(&self) -> bool {
        self.code.steps.get() == 0
    }

    fn signature(&self, function: usize) -> Option<&'c Signature> {
        self.code.signatures.get(function)
    }

    /// Follow one function with what is known of its arguments; note what it gives to others, and what it returns.
    fn function(&mut self, number: usize, mut found: Option<&mut Found>) {
        let Some(function) = self.code.functions.get(number) else { return };
        let mut entered = self.arguments[number];
        if entered.iter().all(|held| *held == Held::Never) {
            return;
        }
        for (held, typed) in entered.iter_mut().zip(self.typed_parameters(number)) {
            if *held == Held::Unknown {
                *held = typed.unwrap_or(Held::Unknown);
            }
        }
        let mut states: BTreeMap<usize, State> = BTreeMap::new();
        states.insert(function.from, State::entered(&entered));
        self.charge(function.until.saturating_sub(function.from));
        let heads = heads(self.code.insns, function);
        if heads.len() > MAX_HEADS {
            self.code.steps.set(0);
        }
        let mut waiting = BTreeSet::from([function.from]);
        while let Some(head) = waiting.pop_first() {
            self.charge(STEPS_OF_STATE);
            if self.is_out() {
                return;
            }
            let Some(state) = states.get(&head).cloned() else { continue };
            for (to, state) in self.block(number, head, state, &heads, None) {
                let changed = match states.get_mut(&to) {
                    Some(there) => there.join(&state),
                    None => {
                        states.insert(to, state);
                        true
                    }
                };
                if changed {
                    waiting.insert(to);
                }
            }
        }
        if let Some(found) = found.as_mut() {
            for (head, state) in states {
                self.block(number, head, state, &heads, Some(found));
            }
        }
    }

    /// What the function's type says of its arguments, where they are in their registers.
    fn typed_parameters(&self, function: usize) -> [Option<Held>; ARGUMENTS] {
        let mut typed = [None; ARGUMENTS];
        if self.reads_all.get(function) == Some(&true) && function != 0 {
            let parameters = self.signature(function).map_or(&[][..], |of| &of.parameters);
            for (typed, id) in typed.iter_mut().zip(parameters) {
                *typed = id.map(|id| Held::Typed { id, function });
            }
        }
        typed
    }

    /// From `at` to the next head or jump: the states in which the ways go on.
    fn block(
        &mut self,
        function: usize,
        mut at: usize,
        mut state: State,
        heads: &BTreeSet<usize>,
        mut found: Option<&mut Found>,
    ) -> Vec<(usize, State)> {
        let Some(of) = self.code.functions.get(function) else { return Vec::new() };
        let (first, until) = (at, of.until);
        while at < until && (at == first || !heads.contains(&at)) {
            let Some(&insn) = self.code.insns.get(at) else { return Vec::new() };
            self.charge(1);
            let to = |by: i32| {
                let to = (at as i64).saturating_add(1).saturating_add(by.into());
                usize::try_from(to).ok().filter(|to| (of.from..until).contains(to))
            };
            match insn.next() {
                Next::Return => {
                    self.leave(function, state.register(0), found.as_deref_mut());
                    return Vec::new();
                }
                Next::Anywhere => return Vec::new(),
                Next::Jump(by) => return to(by).map(|to| (to, state)).into_iter().collect(),
                Next::Branch(by) => {
                    let (mut taken, mut on) = (state.clone(), state);
                    match insn.null_where() {
                        Some(NullWhere::Taken) => taken.set(insn.dst, Held::Null),
                        Some(NullWhere::NotTaken) => on.set(insn.dst, Held::Null),
                        None => {}
                    }
                    return [(to(by), taken), (to(0), on)]
                        .into_iter()
                        .filter_map(|(to, state)| Some((to?, state)))
                        .collect();
                }
                Next::On => self.step(function, at, insn, &mut state, found.as_deref_mut()),
            }
            at += if matches!(insn.does(), Does::Wide { .. } | Does::FunctionAddress { .. }) { 2 } else { 1 };
        }
        if at < until { vec![(at, state)] } else { Vec::new() }
    }

    fn leave(&mut self, function: usize, held: Held, found: Option<&mut Found>) {
        if let Some(returned) = self.returned.get_mut(function) {
            *returned = returned.join(held);
        }
        let typed = self.signature(function).and_then(|of| of.returns);
        if let (Some(found), Some(id), true) = (found, typed, self.is_used[function]) {
            see(found, held, id, Met::Returned { function });
        }
    }

    fn step(&mut self, function: usize, at: usize, insn: Insn, state: &mut State, found: Option<&mut Found>) {
        match insn.does() {
            Does::Move { dst, src } => state.set(dst, state.register(src)),
            Does::MoveHalf { dst, src } => state.set(dst, state.register(src).half()),
            Does::Zero { dst } => state.set(dst, Held::Null),
            Does::Add { dst, by } => state.set(dst, state.register(dst).plus(by.into())),
            Does::Compute { dst, src } => {
                let is_stack =
                    state.register(dst).is_stack() || src.is_some_and(|src| state.register(src).is_stack());
                state.set(dst, if is_stack { Held::SomeStack } else { Held::Unknown });
            }
            Does::Wide { dst } => {
                let upper = self.code.insns.get(at + 1).map_or(0, |next| next.imm);
                let wide = u64::from(upper.cast_unsigned()) << 32 | u64::from(insn.imm.cast_unsigned());
                state.set(dst, (self.code.maps)(wide).map_or(Held::Unknown, Held::Map));
            }
            Does::FunctionAddress { dst } => state.set(dst, Held::Unknown),
            Does::Load { dst, base, off, bytes, plain } => {
                let base = state.register(base);
                reach(found, base, off, bytes);
                state.set(dst, if plain && bytes == 8 { load(state, base, off) } else { Held::Unknown });
            }
            Does::Store { base, off, bytes, value } => {
                let base = state.register(base);
                let held = match value {
                    Some(register) => state.register(register),
                    None if insn.imm == 0 => Held::Null,
                    None => Held::Unknown,
                };
                state.write_stack(base, off, bytes, held);
                if let Some(found) = found {
                    if let (Held::Value { map, at }, Held::Typed { id, function }, 8) = (base, held, bytes) {
                        let word = Held::Word { map, at: at.saturating_add(off.into()), plus: 0 };
                        see(found, word, id, Met::Written { function });
                    }
                    reach(Some(found), base, off, bytes);
                }
            }
            Does::Atomic { base, off, bytes, fetched } => {
                let base = state.register(base);
                reach(found, base, off, bytes);
                state.write_stack(base, off, bytes, Held::Unknown);
                if let Some(register) = fetched {
                    state.set(register, Held::Unknown);
                }
            }
            Does::Call | Does::KernelCall => self.call(function, at, insn, state, found),
            Does::TailCall => {
                // Where there is such a program, what that one returns is what this function returns.
                self.leave(function, Held::Unknown, None);
                self.call(function, at, insn, state, found);
            }
            Does::Nothing => {}
        }
    }

    fn call(&mut self, caller: usize, at: usize, insn: Insn, state: &mut State, found: Option<&mut Found>) {
        let given: [Held; ARGUMENTS] = std::array::from_fn(|nth| state.register(nth + 1));
        let ours = if insn.does() == Does::Call { callee(insn, at, self.code.functions) } else { None };
        let result = match ours {
            Some(number) => {
                if let Some(found) = found {
                    let typed = self.typed_parameters(number);
                    for (parameter, (held, typed)) in given.iter().zip(typed).enumerate() {
                        if let Some(Held::Typed { id, .. }) = typed {
                            see(found, *held, id, Met::Given { function: number, parameter });
                        }
                    }
                }
                for (known, held) in self.arguments[number].iter_mut().zip(given) {
                    // The stack of the caller is not that of the callee.
                    let held = match held {
                        Held::Stack(_) | Held::SomeStack => Held::Unknown,
                        held => held,
                    };
                    *known = known.join(held);
                }
                let typed = self.signature(number).and_then(|of| of.returns);
                match (self.returned[number], typed) {
                    (Held::Unknown, Some(id)) if self.is_used[number] => Held::Typed { id, function: number },
                    (held, _) => held,
                }
            }
            None => match given[0] {
                Held::Map(map) if insn.does() == Does::KernelCall && (self.code.finds_value)(insn) => {
                    Held::Value { map, at: 0 }
                }
                _ => Held::Unknown,
            },
        };
        // A call that was not understood may be of any function, with any arguments.
        if ours.is_none() && insn.does() == Does::Call {
            for (number, known) in self.arguments.iter_mut().enumerate() {
                if number != caller {
                    *known = [Held::Unknown; ARGUMENTS];
                }
            }
        }
        for held in given {
            state.lend(held);
        }
        for register in 1..=ARGUMENTS {
            state.set(register, Held::Unknown);
        }
        state.set(0, result);
    }
}

/// What 8 bytes hold that are read.
fn load(state: &State, base: Held, off: i16) -> Held {
    match base {
        Held::Value { map, at } => Held::Word { map, at: at.saturating_add(off.into()), plus: 0 },
        Held::Stack(at) => match State::slot(at.saturating_add(off.into())) {
            Some((slot, true)) => state.slots[slot],
            _ => Held::Unknown,
        },
        Held::Never => Held::Never,
        _ => Held::Unknown,
    }
}

/// Note that what `held` is points at the struct `id`.
fn see(found: &mut Found, held: Held, id: u32, met: Met) {
    if let Held::Word { map, at, plus: 0 } = held
        && let Ok(at) = u32::try_from(at)
    {
        found.seen.entry((map, at)).or_default().entry(id).or_insert(met);
    }
}

/// Note what is read or written through a word of a map's value.
fn reach(found: Option<&mut Found>, base: Held, off: i16, bytes: u8) {
    if let (Some(found), Held::Word { map, at, plus }) = (found, base)
        && let Ok(at) = u32::try_from(at)
    {
        found.reached.entry((map, at)).or_default().insert((plus.saturating_add(off.into()), bytes));
    }
}

/// The numbers of a function's instructions, without the second halves of wide ones.
fn steps<'c>(insns: &'c [Insn], function: &Function) -> impl Iterator<Item = usize> + 'c {
    let mut at = function.from;
    let until = function.until;
    std::iter::from_fn(move || {
        let here = at;
        let insn = insns.get(here).filter(|_| here < until)?;
        at += if matches!(insn.does(), Does::Wide { .. } | Does::FunctionAddress { .. }) { 2 } else { 1 };
        Some(here)
    })
}

/// Where ways through a function meet.
fn heads(insns: &[Insn], function: &Function) -> BTreeSet<usize> {
    let targets = steps(insns, function).filter_map(|at| {
        let (Next::Jump(by) | Next::Branch(by)) = insns.get(at)?.next() else { return None };
        usize::try_from((at as i64).saturating_add(1).saturating_add(by.into())).ok()
    });
    targets.collect()
}
