//! Reading the programs that are followed, and weighing what comes of it.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::code::{ARGUMENTS, Function, INSN_BYTES, Insn};
use super::flow::{Code, Found, Met, Reached, Seen, Signature, follow};
use super::{Origin, Proof, ProvenTypes};
use crate::btf::{Kind, TypeId, Types};
use crate::kernel::maps::BpfMap;
use crate::kernel::mirror::mirror;
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
        id: u32,
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
const MAX_STEPS: usize = 32 << 20;
/// Most functions of a program (`BPF_MAX_SUBPROGS` is 256).
const MAX_FUNCTIONS: usize = 1024;
/// Most maps of a program (`MAX_USED_MAPS` is 64).
const MAX_MAPS: usize = 1024;
/// Most BTF of all programs that are followed, in bytes.
const MAX_BTF_BYTES: usize = 32 << 20;
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

impl ProvenTypes {
    /// Follow all programs that use maps in which words without a type may be found.
    ///
    /// # Errors
    /// When the table of programs cannot be read. A program that cannot be is a line of [`ProvenTypes::faults`].
    pub(in crate::kernel) fn read(view: &KernelView<'_>) -> Result<Self, KernelError> {
        let mut out = Self::default();
        let mut met: HashMap<KernelVirt, (Arc<Types>, Found)> = HashMap::new();
        let base = view.symbol("__bpf_call_base").ok();
        let steps = Cell::new(MAX_STEPS);
        for (index, at) in idr_entries(view, "prog_idr", MAX_PROGRAMS)? {
            if let Err(error) = one(view, at, base, &steps, &mut met, &mut out.faults) {
                out.faults.push(format!("BPF program {index}: {error}"));
            }
        }
        for (types, found) in met.into_values() {
            out.weigh(&types, &found.seen, &found.reached);
        }
        out.faults.sort();
        Ok(out)
    }

    /// Keep what is proven.
    pub(super) fn weigh(&mut self, types: &Arc<Types>, seen: &Seen, reached: &Reached) {
        for (&(map, offset), structs) in seen {
            let said = |id: &u32| types.describe(TypeId(*id));
            // A struct and the one that it begins with are at the same address: the outermost is the one.
            let is_outermost = |id: &u32| {
                structs.keys().all(|other| other == id || begins_with(types, TypeId(*id), TypeId(*other)))
            };
            let Some((&id, met)) = structs.iter().find(|(id, _)| is_outermost(id)) else {
                let all: Vec<String> = structs.keys().map(said).collect();
                self.faults.push(format!(
                    "map {map}, offset {offset}: its programs take what it points at for {}",
                    all.join(" and for ")
                ));
                continue;
            };
            let size = types.size_of(TypeId(id)).unwrap_or(0);
            let is_within = |(from, len): &(i64, u8)| {
                u64::try_from(*from).is_ok_and(|from| from.saturating_add(u64::from(*len)) <= size)
            };
            match reached.get(&(map, offset)).and_then(|all| all.iter().find(|one| !is_within(one))) {
                Some((from, len)) => self.faults.push(format!(
                    "map {map}, offset {offset}: its programs take what it points at for {}, of {size} bytes, and reach {len} bytes at {from} of it",
                    said(&id)
                )),
                None => {
                    let by = origin(types, *met);
                    self.words.insert((map, offset), Proof { types: Arc::clone(types), struct_id: TypeId(id), by });
                }
            }
        }
    }
}

fn origin(types: &Types, met: Met) -> Origin {
    // `flow` numbers functions by their types, once it was read.
    let name = |function: usize| types.name(TypeId(function as u32)).unwrap_or_default().to_owned();
    match met {
        Met::Returned { function } => Origin::Returned { function: name(function) },
        Met::Written { function } => Origin::Written { function: name(function) },
        Met::Given { function, parameter } => {
            let signature = types.signature(TypeId(function as u32)).ok().flatten();
            let found =
                signature.and_then(|of| of.parameters.get(parameter).map(|(name, _)| (*name).to_owned()));
            Origin::Given { function: name(function), parameter: found.unwrap_or_default() }
        }
    }
}

/// Follow one program; what is found goes to what is found of its types.
fn one(
    view: &KernelView<'_>,
    at: KernelVirt,
    base: Option<KernelVirt>,
    steps: &Cell<usize>,
    met: &mut HashMap<KernelVirt, (Arc<Types>, Found)>,
    faults: &mut Vec<String>,
) -> Result<(), KernelError> {
    let prog: Prog = view.mirror(at)?;
    let aux: Aux = view.mirror(prog.aux)?;
    if aux.btf.0 == 0 || aux.func_info.0 == 0 {
        return Ok(());
    }
    let maps = storages(view, &aux)?;
    if maps.is_empty() {
        return Ok(());
    }
    let len = prog.len as usize;
    if len > MAX_INSNS || steps.get() == 0 {
        let why = format!("its {len} instructions are too many to be followed");
        return Err(KernelError::Broken { what: "struct bpf_prog", at, why });
    }
    let code_at = KernelVirt(at.0.wrapping_add(view.offset_of("bpf_prog", "insnsi")?));
    let bytes = view.bytes(code_at, len * INSN_BYTES)?;
    let insns: Vec<Insn> = bytes.as_chunks().0.iter().map(Insn::decode).collect();
    let functions = functions(view, &aux, len)?;
    if !met.contains_key(&aux.btf) {
        let have: usize = met.values().map(|(types, _)| types.bytes().len()).sum();
        let types = types_at(view, aux.btf, MAX_BTF_BYTES.saturating_sub(have))?;
        met.insert(aux.btf, (Arc::new(types), Found::default()));
    }
    let Some((types, all)) = met.get_mut(&aux.btf) else { return Ok(()) };
    let signatures: Vec<Signature> =
        functions.iter().map(|function| signature(types, TypeId(function.type_id))).collect();
    let finds_value = |insn: Insn| {
        let to = base.map(|base| base.0.wrapping_add_signed(insn.imm.into()));
        let symbol = to.and_then(|to| view.profile().symbols().at(KernelVirt(to)));
        symbol.is_some_and(|(symbol, distance)| distance == 0 && FINDS_VALUE.contains(&symbol.name))
    };
    let code = Code {
        insns: &insns,
        functions: &functions,
        maps: &|address| maps.get(&address).copied(),
        finds_value: &finds_value,
        steps,
        signatures: &signatures,
    };
    let Some(found) = follow(&code) else {
        faults.push(format!("BPF program {}: following it comes to no end, or takes too long", aux.id));
        return Ok(());
    };
    // Programs of an object share its types, not the numbers of functions.
    let number = |function: usize| functions.get(function).map_or(0, |function| function.type_id as usize);
    for (word, structs) in found.seen {
        let known = all.seen.entry(word).or_default();
        for (id, met) in structs {
            known.entry(id).or_insert(match met {
                Met::Returned { function } => Met::Returned { function: number(function) },
                Met::Given { function, parameter } => Met::Given { function: number(function), parameter },
                Met::Written { function } => Met::Written { function: number(function) },
            });
        }
    }
    for (word, reached) in found.reached {
        all.reached.entry(word).or_default().extend(reached);
    }
    Ok(())
}

/// The maps of a program that are storage of tasks and the like, by their addresses.
fn storages(view: &KernelView<'_>, aux: &Aux) -> Result<BTreeMap<u64, u32>, KernelError> {
    let count = if aux.used_maps.0 == 0 { 0 } else { (aux.used_map_cnt as usize).min(MAX_MAPS) };
    let mut out = BTreeMap::new();
    for at in bytes::u64s(&view.bytes(aux.used_maps, count * 8)?) {
        let map: BpfMap = view.mirror(KernelVirt(at))?;
        let kind = view.types().enum_name_of("bpf_map_type", i128::from(map.map_type));
        if kind.is_some_and(|kind| kind.ends_with("_STORAGE")) {
            out.insert(at, map.id);
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

/// The types of the `struct btf` at `at`, which are at most `room` bytes.
fn types_at(view: &KernelView<'_>, at: KernelVirt, room: usize) -> Result<Types, KernelError> {
    let btf: Btf = view.mirror(at)?;
    let len = btf.data_size as usize;
    if len > room {
        let why = format!("its {len} bytes are too many, with those of other programs");
        return Err(KernelError::Broken { what: "struct btf", at, why });
    }
    Ok(Types::parse(view.bytes(btf.data, len)?)?)
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

/// The words of a function's type that point at structs of a known size.
fn signature(types: &Types, function: TypeId) -> Signature {
    let of = |id: TypeId| {
        let target = types
            .target_of(id)
            .ok()
            .flatten()
            .filter(|_| types.resolve(id).is_ok_and(|(id, _)| types.kind(id) == Ok(Kind::Ptr)))?;
        let (shape, _) = types.resolve(target).ok()?;
        let is_struct = matches!(types.kind(shape), Ok(Kind::Struct | Kind::Union));
        let has_size = types.size_of(shape).is_ok_and(|size| size > 0);
        (is_struct && has_size && types.name(shape).is_ok_and(|name| !name.is_empty())).then_some(shape.0)
    };
    match types.signature(function) {
        Ok(Some(signature)) => Signature {
            parameters: signature.parameters.iter().take(ARGUMENTS + 1).map(|(_, id)| of(*id)).collect(),
            returns: of(signature.returns),
        },
        _ => Signature::default(),
    }
}
