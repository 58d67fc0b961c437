//! Reading the programs that are followed, and weighing what comes of it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::code::{ARGUMENTS, Function, INSN_BYTES, Insn};
use super::flow::{Code, Found, Met, Reached, Seen, Signature, follow};
use super::kept::{self, Image};
use super::{Origin, Proof, ProvenTypes};
use crate::btf::{Kind, TypeId, Types};
use crate::kernel::mirror::mirror;
use crate::kernel::progs::{MAX_MAPS, used_maps};
use crate::kernel::trees::idr_entries;
use crate::kernel::{KernelError, KernelView, bytes};
use crate::units::KernelVirt;

mirror! {
    /// `struct bpf_prog`, as far as its instructions go.
    struct Prog, ProgLayout = "bpf_prog" {
        len: u32,
        aux: KernelVirt,
    }
}

mirror! {
    /// `struct bpf_prog_aux`, as far as its functions go.
    struct Aux, AuxLayout = "bpf_prog_aux" {
        used_map_cnt: u32,
        used_maps: KernelVirt,
        btf: KernelVirt,
        func_info: KernelVirt,
        func_info_cnt: u32,
    }
}

mirror! {
    /// `struct btf`, as far as its types go.
    struct Btf, BtfLayout = "btf" {
        data: KernelVirt,
        data_size: u32,
    }
}

/// Most programs that are looked at.
const MAX_PROGRAMS: usize = 4096;
/// Most instructions of one program, as it is loaded.
const MAX_INSNS: usize = 1 << 17;
/// Most instructions of all programs that are looked at, each as often as it is.
const MAX_STEPS: usize = 64 << 20;
/// Most functions of a program (`BPF_MAX_SUBPROGS` is 256).
const MAX_FUNCTIONS: usize = 1024;
/// Most BTF of all programs that are followed, in bytes.
const MAX_BTF_BYTES: usize = 32 << 20;
/// Most structs that are met for one word and weighed against each other.
const MAX_STRUCTS: usize = 64;
/// Most of them that a fault names.
const MAX_NAMED: usize = 4;
/// Longest name of a type or function, in bytes (`KSYM_NAME_LEN` of kernels).
const MAX_NAME_BYTES: usize = 512;
/// Most faults that are kept.
const MAX_FAULTS: usize = 256;
/// Instructions that reading one map of a program counts for.
const STEPS_OF_MAP: usize = 8;
/// Deepest nesting of structs at the beginning of one.
const MAX_NESTED: usize = 32;
/// Size of `struct bpf_func_info`, which user space's interface fixes.
const FUNC_INFO_BYTES: usize = 8;
/// Functions of the kernel that give the address of an entry's value for the map that they are given first.
const FINDS_VALUE: [&str; 5] = [
    "bpf_task_storage_get",
    "bpf_task_storage_get_recur",
    "bpf_cgrp_storage_get",
    "bpf_inode_storage_get",
    "bpf_sk_storage_get",
];

/// Why a program was not followed.
#[derive(Debug, thiserror::Error)]
enum NotFollowed {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("{0}")]
    Why(String),
}

impl ProvenTypes {
    /// Follow all programs that use maps in which words without a type may be found.
    ///
    /// # Errors
    /// When the table of programs cannot be read. A program that cannot be is a line of [`ProvenTypes::faults`].
    pub(in crate::kernel) fn read(view: &KernelView<'_>) -> Result<Self, KernelError> {
        let mut out = Self::default();
        let programs = idr_entries(view, "prog_idr", MAX_PROGRAMS + 1)?;
        if programs.len() > MAX_PROGRAMS {
            out.fault(format!("there are more than {MAX_PROGRAMS} BPF programs: none was followed"));
            return Ok(out);
        }
        let mut reading = Reading {
            view,
            base: view.symbol("__bpf_call_base").ok(),
            steps: Cell::new(MAX_STEPS),
            met: BTreeMap::new(),
            untold: BTreeSet::new(),
        };
        for (id, at) in programs {
            if let Err(why) = reading.program(at) {
                out.fault(format!("BPF program {id} was not followed: {why}"));
            }
        }
        // What one object's programs reach by a word that another's give a type has to be within that, too.
        let mut reached = Reached::new();
        for (word, all) in reading.met.values().flat_map(|(_, found)| &found.reached) {
            reached.entry(*word).or_default().extend(all.iter().copied());
        }
        for (types, found) in reading.met.values() {
            out.weigh(types, &found.seen, &reached);
        }
        // A program that was not followed may contradict the others.
        out.words.retain(|(map, _), _| !reading.untold.contains(map));
        out.faults.sort();
        if out.more_faults > 0 {
            out.faults.push(format!("{} further ones", out.more_faults));
        }
        Ok(out)
    }

    fn fault(&mut self, fault: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        } else {
            self.more_faults += 1;
        }
    }

    /// Keep what is proven by the programs that share `types`; `reached` is what any programs reach.
    pub(super) fn weigh(&mut self, types: &Arc<Types>, seen: &Seen, reached: &Reached) {
        for (word, structs) in seen {
            let found = weighed(types, structs, reached.get(word));
            self.settle(*word, found);
        }
    }

    /// Keep what a word points at, unless other programs say otherwise.
    fn settle(&mut self, word: (u32, u32), found: Result<Proof, String>) {
        if self.contradicted.contains(&word) {
            return;
        }
        let why = match (found, self.words.remove(&word)) {
            (Err(why), _) => why,
            (Ok(new), Some(old)) if new.type_name() != old.type_name() => {
                taken_for(&[old, new].map(|proof| proof.types.describe(proof.struct_id)))
            }
            (Ok(new), old) => {
                self.words.insert(word, old.unwrap_or(new));
                return;
            }
        };
        self.contradicted.insert(word);
        self.fault(format!("map {}, offset {}: {why}", word.0, word.1));
    }
}

fn taken_for(all: &[String]) -> String {
    format!("its programs take what it points at for {}", all.join(" and for "))
}

/// The one struct of those that were met for a word, if whatever is reached by way of it is within that.
fn weighed(
    types: &Arc<Types>,
    structs: &BTreeMap<u32, Met>,
    reached: Option<&BTreeSet<(i64, u8)>>,
) -> Result<Proof, String> {
    // A struct and the one that it begins with are at the same address: the outermost is the one.
    let is_outermost =
        |id: &u32| structs.keys().all(|other| other == id || begins_with(types, TypeId(*id), TypeId(*other)));
    let few = structs.len() <= MAX_STRUCTS;
    let Some((&id, met)) = structs.iter().find(|(id, _)| few && is_outermost(id)) else {
        let mut all: Vec<String> =
            structs.keys().take(MAX_NAMED).map(|id| types.describe(TypeId(*id))).collect();
        if structs.len() > MAX_NAMED {
            all.push(format!("{} others", structs.len() - MAX_NAMED));
        }
        return Err(taken_for(&all));
    };
    let (struct_id, size) = (TypeId(id), types.size_of(TypeId(id)).unwrap_or(0));
    let is_within = |(from, len): &(i64, u8)| {
        u64::try_from(*from).is_ok_and(|from| from.saturating_add(u64::from(*len)) <= size)
    };
    match reached.and_then(|all| all.iter().find(|one| !is_within(one))) {
        Some((from, len)) => Err(format!(
            "{}, of {size} bytes, and reach {len} bytes at {from} of it",
            taken_for(&[types.describe(struct_id)])
        )),
        None => Ok(Proof { types: Arc::clone(types), struct_id, by: origin(types, *met) }),
    }
}

fn origin(types: &Types, met: Met) -> Origin {
    // `flow` numbers functions by their types, once it was read.
    let short = |name: &str| name.chars().take(MAX_NAME_BYTES).collect::<String>();
    let name = |function: usize| short(types.name(TypeId(function as u32)).unwrap_or_default());
    match met {
        Met::Returned { function } => Origin::Returned { function: name(function) },
        Met::Written { function } => Origin::Written { function: name(function) },
        Met::Given { function, parameter } => {
            let signature = types.signature(TypeId(function as u32)).ok().flatten();
            let found = signature.and_then(|of| of.parameters.get(parameter).map(|(name, _)| short(name)));
            Origin::Given { function: name(function), parameter: found.unwrap_or_default() }
        }
    }
}

/// Reading all programs.
struct Reading<'v, 'm> {
    view: &'v KernelView<'m>,
    /// From where the kernel counts the addresses of its functions in calls.
    base: Option<KernelVirt>,
    /// How many instructions may still be looked at.
    steps: Cell<usize>,
    /// Types by their address, with what is found of the programs that share them.
    met: BTreeMap<KernelVirt, (Arc<Types>, Found)>,
    /// Maps of programs that were not followed.
    untold: BTreeSet<u32>,
}

impl Reading<'_, '_> {
    /// Follow one program; what is found goes to what is found of its types.
    fn program(&mut self, at: KernelVirt) -> Result<(), NotFollowed> {
        let prog: Prog = self.view.mirror(at)?;
        let aux: Aux = self.view.mirror(prog.aux)?;
        if aux.btf.0 == 0 || aux.func_info.0 == 0 {
            return Ok(());
        }
        self.charge((aux.used_map_cnt as usize).min(MAX_MAPS) * STEPS_OF_MAP);
        self.in_time()?;
        let maps = storages(self.view, &aux)?;
        if maps.is_empty() {
            return Ok(());
        }
        let followed = self.follow(at, &prog, &aux, &maps);
        if followed.is_err() {
            self.untold.extend(maps.values());
        }
        followed
    }

    fn charge(&self, steps: usize) {
        self.steps.set(self.steps.get().saturating_sub(steps));
    }

    fn in_time(&self) -> Result<(), NotFollowed> {
        if self.steps.get() > 0 {
            return Ok(());
        }
        Err(NotFollowed::Why(format!("following programs takes more than {MAX_STEPS} instructions")))
    }

    fn follow(
        &mut self,
        at: KernelVirt,
        prog: &Prog,
        aux: &Aux,
        maps: &BTreeMap<u64, u32>,
    ) -> Result<(), NotFollowed> {
        let view = self.view;
        let len = prog.len as usize;
        if len > MAX_INSNS {
            return Err(NotFollowed::Why(format!("its {len} instructions are more than {MAX_INSNS}")));
        }
        let code_at = KernelVirt(at.0.wrapping_add(view.offset_of("bpf_prog", "insnsi")?));
        let code = view.bytes(code_at, len * INSN_BYTES)?;
        let functions = functions(view, aux, len)?;
        if !self.met.contains_key(&aux.btf) {
            let have: usize = self.met.values().map(|(types, _)| types.bytes().len()).sum();
            let types = self.types_at(aux.btf, MAX_BTF_BYTES.saturating_sub(have))?;
            self.met.insert(aux.btf, (types, Found::default()));
        }
        let Some((types, _)) = self.met.get(&aux.btf) else { return Ok(()) };
        let image =
            Image { code, functions: functions.clone(), maps: maps.clone(), types: Arc::clone(types) };
        let Some(found) = self.found(at, image) else {
            let why =
                "following it comes to no end, takes too long, or meets a jump to where a register says";
            return Err(NotFollowed::Why(why.to_owned()));
        };
        let Some((_, all)) = self.met.get_mut(&aux.btf) else { return Ok(()) };
        // Programs of an object share its types, not the numbers of functions.
        let number =
            |function: usize| functions.get(function).map_or(0, |function| function.type_id as usize);
        for (&word, structs) in &found.seen {
            let known = all.seen.entry(word).or_default();
            for (&id, &met) in structs {
                known.entry(id).or_insert(match met {
                    Met::Returned { function } => Met::Returned { function: number(function) },
                    Met::Given { function, parameter } => {
                        Met::Given { function: number(function), parameter }
                    }
                    Met::Written { function } => Met::Written { function: number(function) },
                });
            }
        }
        for (&word, reached) in &found.reached {
            all.reached.entry(word).or_default().extend(reached);
        }
        Ok(())
    }

    /// What following the program at `at` finds, unless it was found before; `None` where that comes to no end, or some way through
    /// it is not known.
    fn found(&self, at: KernelVirt, image: Image) -> Option<Arc<Found>> {
        let (view, base, steps) = (self.view, self.base, &self.steps);
        let followed = view.profile().followed();
        if let Some(kept::Known { found, steps }) = followed.result(at, &image) {
            self.charge(steps);
            return found.filter(|_| self.steps.get() > 0);
        }
        let before = steps.get();
        let signature = |function: &Function| signature(&image.types, TypeId(function.type_id), steps);
        let signatures: Vec<Signature> = image.functions.iter().map(signature).collect();
        let finds_value = |insn: Insn| {
            let to = base.map(|base| base.0.wrapping_add_signed(insn.imm.into()));
            let symbol = to.and_then(|to| view.profile().symbols().at(KernelVirt(to)));
            symbol.is_some_and(|(symbol, distance)| distance == 0 && FINDS_VALUE.contains(&symbol.name))
        };
        let insns: Vec<Insn> = image.code.as_chunks().0.iter().map(Insn::decode).collect();
        let code = Code {
            insns: &insns,
            functions: &image.functions,
            maps: &|address| image.maps.get(&address).copied(),
            finds_value: &finds_value,
            steps,
            signatures: &signatures,
        };
        followed.count();
        let found = follow(&code).map(Arc::new);
        // Where the instructions ran out, another checkpoint may have some left.
        if steps.get() > 0 {
            let result = kept::Known { found: found.clone(), steps: before - steps.get() };
            followed.keep(at, image, result);
        }
        found
    }

    /// The types of the `struct btf` at `at`, which are at most `room` bytes.
    fn types_at(&self, at: KernelVirt, room: usize) -> Result<Arc<Types>, NotFollowed> {
        let btf: Btf = self.view.mirror(at)?;
        let len = btf.data_size as usize;
        if len > room {
            let why = format!("the {len} bytes of its types are too many, with those of other programs");
            return Err(NotFollowed::Why(why));
        }
        // Types that are broken are read again for each program that has them.
        self.charge(len / INSN_BYTES);
        self.in_time()?;
        let (bytes, followed) = (self.view.bytes(btf.data, len)?, self.view.profile().followed());
        if let Some(known) = followed.types(at, &bytes) {
            return Ok(known);
        }
        let types = Arc::new(Types::parse(bytes).map_err(KernelError::from)?);
        followed.keep_types(at, &types);
        Ok(types)
    }
}

/// The maps of a program that are storage of tasks and the like, by their addresses.
fn storages(view: &KernelView<'_>, aux: &Aux) -> Result<BTreeMap<u64, u32>, KernelError> {
    let mut out = BTreeMap::new();
    for (at, map) in used_maps(view, aux.used_maps, aux.used_map_cnt)? {
        let kind = view.types().enum_name_of("bpf_map_type", i128::from(map.map_type));
        if kind.is_some_and(|kind| kind.ends_with("_STORAGE")) {
            out.insert(at.0, map.id);
        }
    }
    Ok(out)
}

/// The functions of a program of `len` instructions.
fn functions(view: &KernelView<'_>, aux: &Aux, len: usize) -> Result<Vec<Function>, KernelError> {
    let count = (aux.func_info_cnt as usize).min(MAX_FUNCTIONS);
    let infos = view.bytes(aux.func_info, count * FUNC_INFO_BYTES)?;
    let infos: Vec<(usize, u32)> =
        bytes::u64s(&infos).map(|info| (info as u32 as usize, (info >> 32) as u32)).collect();
    let ends = infos.iter().skip(1).map(|(from, _)| *from).chain([len]);
    let all: Vec<Function> = infos
        .iter()
        .zip(ends)
        .map(|(&(from, type_id), until)| Function { from, until: until.min(len), type_id })
        .collect();
    let is_in_order =
        all.first().is_some_and(|first| first.from == 0) && all.iter().all(|one| one.from < one.until);
    if !is_in_order {
        let why = "its functions are not in the order of their instructions".to_owned();
        return Err(KernelError::Broken { what: "struct bpf_func_info", at: aux.func_info, why });
    }
    Ok(all)
}

/// Whether a struct has another at its beginning, as its first member or as that of its first member.
fn begins_with(types: &Types, outer: TypeId, inner: TypeId) -> bool {
    let mut at = outer;
    for _ in 0..MAX_NESTED {
        let first = types.members(at).ok().flatten().and_then(|members| members.first());
        let Some(first) = first.map(Types::member_field).filter(|first| first.offset_bits == 0) else {
            return false;
        };
        let Ok((shape, _)) = types.resolve(first.type_id) else { return false };
        if shape == inner {
            return true;
        }
        at = shape;
    }
    false
}

/// The words of a function's type that point at structs of a known size. Where not each parameter is in one register, or the result is
/// not in one, which may be an argument more, nothing is said of the parameters.
pub(super) fn signature(types: &Types, function: TypeId, steps: &Cell<usize>) -> Signature {
    if steps.get() == 0 {
        return Signature::default();
    }
    let Ok(Some(signature)) = types.signature(function) else { return Signature::default() };
    steps.set(steps.get().saturating_sub(signature.parameters.len()));
    let points_at = |id: TypeId| {
        let target = types
            .target_of(id)
            .ok()
            .flatten()
            .filter(|_| types.resolve(id).is_ok_and(|(id, _)| types.kind(id) == Ok(Kind::Ptr)))?;
        let (shape, _) = types.resolve(target).ok()?;
        let is_struct = matches!(types.kind(shape), Ok(Kind::Struct | Kind::Union));
        let has_size = types.size_of(shape).is_ok_and(|size| size > 0);
        let is_named = types.name(shape).is_ok_and(|name| (1..=MAX_NAME_BYTES).contains(&name.len()));
        (is_struct && has_size && is_named).then_some(shape.0)
    };
    let in_register = |id: TypeId| {
        let kind = types.resolve(id).and_then(|(id, _)| types.kind(id));
        matches!(kind, Ok(Kind::Int | Kind::Ptr | Kind::Enum | Kind::Enum64))
            && types.size_of(id).is_ok_and(|size| size <= 8)
    };
    let all = signature.parameters.iter().take(ARGUMENTS + 1).map(|(_, id)| *id);
    let in_registers =
        (signature.returns.0 == 0 || in_register(signature.returns)) && all.clone().all(in_register);
    let parameters: Vec<Option<u32>> =
        if in_registers { all.map(points_at).collect() } else { vec![None; ARGUMENTS + 1] };
    Signature { parameters, returns: points_at(signature.returns) }
}
