//! BPF programs: what is loaded, how often it ran, and whose code an address is in.
//!
//! Sources: `kernel/bpf/syscall.c` (`prog_idr`), `core.c` (`bpf_kallsyms`), `include/linux/bpf.h` of Linux. The kernel's own names
//! for BPF code are `bpf_prog_<tag>_<name>`, `bpf_trampoline_<key>`, `bpf__<struct>_<op>`.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::kernel::maps::BpfMap;
use crate::kernel::mirror::{Text, mirror};
use crate::kernel::prog_lines::line_of;
use crate::kernel::trees::idr_entries;
use crate::kernel::{Cpus, FieldMissing, Gaps, KernelError, KernelView, bytes, list_entries};
use crate::units::KernelVirt;

#[cfg(test)]
mod tests;

mirror! {
    /// `struct bpf_prog`.
    struct Prog, ProgLayout = "bpf_prog" {
        kind: u32 = "type",
        tag: u64,
        insns: u32 = "len",
        jited_len: u32,
        stats: KernelVirt,
        code: KernelVirt = "bpf_func",
        aux: KernelVirt,
    }
}

mirror! {
    /// `struct bpf_prog`, on the way to the rest of it.
    pub(in crate::kernel) struct ProgAux, ProgAuxLayout = "bpf_prog" {
        aux: KernelVirt,
    }
}

mirror! {
    /// `struct bpf_prog_aux`.
    struct Aux, AuxLayout = "bpf_prog_aux" {
        id: u32,
        name: Text,
        func_cnt: u32,
        func: KernelVirt,
        used_map_cnt: u32,
        used_maps: KernelVirt,
        btf: KernelVirt,
        attach_func_name: Result<KernelVirt, FieldMissing>,
        load_time: Result<u64, FieldMissing>,
        verified_insns: Result<u32, FieldMissing>,
    }
}

mirror! {
    /// `struct bpf_prog_stats`, of one CPU.
    struct Stats, StatsLayout = "bpf_prog_stats" {
        cnt: u64,
        nsecs: u64,
        misses: Result<u64, FieldMissing>,
    }
}

mirror! {
    /// `struct bpf_ksym`: a range of JIT code.
    struct Ksym, KsymLayout = "bpf_ksym" {
        start: u64,
        end: u64,
    }
}

mirror! {
    /// Its name, which is long.
    struct KsymName, KsymNameLayout = "bpf_ksym" {
        name: Text,
    }
}

/// Most programs that are read.
const MAX_PROGRAMS: usize = 4096;
/// Most subprograms of one program (`BPF_MAX_SUBPROGS` is 256).
const MAX_FUNCS: usize = 1024;
/// Most maps of one program (`MAX_USED_MAPS` is 64).
pub(in crate::kernel) const MAX_MAPS: usize = 1024;
/// Longest name of what a program is attached to, in bytes.
const MAX_NAME_BYTES: usize = 512;

/// A loaded BPF program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BpfProgram {
    /// Kernel id.
    pub id: u32,
    /// Its name, at most 15 characters.
    pub name: String,
    /// Its type as bpftool prints it: `struct_ops`, `tracing`, ...
    pub kind: String,
    /// Hash of its instructions, as the kernel and bpftool print it: 16 hexadecimal digits.
    pub tag: String,
    /// What it is attached to: a kernel function, or the operation of a `struct_ops`.
    pub attach_to: Option<String>,
    /// BPF instructions.
    pub insns: u32,
    /// Instructions that the verifier looked at.
    pub verified_insns: Option<u32>,
    /// Where its machine code begins.
    #[serde(serialize_with = "in_hexadecimal")]
    pub jited_at: KernelVirt,
    /// Length of its machine code in bytes, that of its subprograms included; 0: it is interpreted.
    pub jited_bytes: u32,
    /// Length of the machine code at `jited_at`, in bytes.
    #[serde(skip)]
    pub main_bytes: u32,
    /// Boot-time clock at its load, in ns.
    pub loaded_at_ns: Option<u64>,
    /// Ids of the maps that it uses, ascending.
    pub map_ids: Vec<u32>,
    /// How often it ran, all CPUs together. Counted only while `kernel.bpf_stats_enabled` is on.
    pub run_count: u64,
    /// How long that took, in ns. Counted as `run_count` is.
    pub run_time_ns: u64,
    /// How often it was not run because it would have recursed.
    pub recursion_misses: Option<u64>,
    /// It is of the object whose scheduler runs. Known where maps are read too.
    pub of_scheduler: bool,
    /// Whose it is, where there are several schedulers: `qmap on /below`. Known where maps are read too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// Where the `struct btf` of its object is; 0 for none.
    #[serde(skip)]
    pub(super) btf: KernelVirt,
}

/// The programs of a kernel and the names of their code.
#[derive(Clone, Debug, Default)]
pub struct BpfPrograms {
    programs: Vec<BpfProgram>,
    symbols: Vec<JitSymbol>,
    faults: Vec<String>,
}

impl BpfPrograms {
    /// Read every program, and the kernel's names for BPF code: programs, subprograms, trampolines.
    ///
    /// # Errors
    /// When the table of programs itself cannot be read. A program that cannot be is a line of
    /// [`BpfPrograms::faults`].
    pub fn read(view: &KernelView<'_>) -> Result<Self, KernelError> {
        let mut out = Self::default();
        let found = idr_entries(view, "prog_idr", MAX_PROGRAMS + 1)?;
        if found.len() > MAX_PROGRAMS {
            let fault = format!("there are more than {MAX_PROGRAMS} BPF programs: the rest was left out");
            out.faults.push(fault);
        }
        let cpus = if found.is_empty() { None } else { Some(view.cpus()?) };
        let mut code = HashMap::new();
        for (&(index, at), cpus) in found.iter().take(MAX_PROGRAMS).zip(cpus.iter().cycle()) {
            if let Err(error) = out.one(view, cpus, at, &mut code) {
                out.faults.push(format!("BPF program {index}: {error}"));
            }
        }
        let mut gaps = Gaps::default();
        out.symbols = match read_symbols(view, &mut gaps) {
            Ok(symbols) => symbols,
            Err(error) => {
                out.faults.push(format!("names of BPF code: {error}; subprograms have none"));
                out.programs.iter().filter_map(JitSymbol::of_program).collect()
            }
        };
        out.faults.extend(gaps.faults.into_iter().map(|fault| format!("names of BPF code: {fault}")));
        for symbol in &mut out.symbols {
            symbol.program = code.get(&symbol.start).copied();
        }
        out.symbols.sort_by_key(|symbol| symbol.start);
        Ok(out)
    }

    /// Read one program; where its code and that of its subprograms begins goes into `code`.
    fn one(
        &mut self,
        view: &KernelView<'_>,
        cpus: &Cpus,
        at: KernelVirt,
        code: &mut HashMap<KernelVirt, u32>,
    ) -> Result<(), KernelError> {
        let prog: Prog = view.mirror(at)?;
        let aux: Aux = view.mirror(prog.aux)?;
        code.insert(prog.code, aux.id);
        let subprograms = if aux.func.0 == 0 { 0 } else { (aux.func_cnt as usize).min(MAX_FUNCS) };
        // The first of them is the program itself.
        let mut jited_bytes = 0u32;
        for function in bytes::u64s(&view.bytes(aux.func, subprograms * 8)?) {
            if let Ok(function) = view.mirror::<Prog>(KernelVirt(function)) {
                code.insert(function.code, aux.id);
                jited_bytes = jited_bytes.saturating_add(function.jited_len);
            }
        }
        let kind = view.types().enum_name_of("bpf_prog_type", i128::from(prog.kind));
        let attached = aux.attach_func_name.ok().filter(|at| at.0 != 0);
        let stats = self.stats(view, cpus, prog.stats, aux.id);
        self.programs.push(BpfProgram {
            id: aux.id,
            name: aux.name.0,
            kind: match kind {
                Some(name) => name.trim_start_matches("BPF_PROG_TYPE_").to_lowercase(),
                None => format!("type {}", prog.kind),
            },
            tag: prog.tag.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
            attach_to: attached.and_then(|at| view.text(at, MAX_NAME_BYTES).ok()),
            insns: prog.insns,
            verified_insns: aux.verified_insns.ok(),
            jited_at: prog.code,
            jited_bytes: jited_bytes.max(prog.jited_len),
            main_bytes: prog.jited_len,
            loaded_at_ns: aux.load_time.ok(),
            map_ids: map_ids(view, aux.used_maps, aux.used_map_cnt)?,
            run_count: stats.0,
            run_time_ns: stats.1,
            recursion_misses: stats.2,
            of_scheduler: false,
            scheduler: None,
            btf: aux.btf,
        });
        Ok(())
    }

    /// Runs, ns and misses of all CPUs.
    fn stats(
        &mut self,
        view: &KernelView<'_>,
        cpus: &Cpus,
        at: KernelVirt,
        id: u32,
    ) -> (u64, u64, Option<u64>) {
        let mut sum = (0u64, 0u64, None);
        // A per-CPU pointer is an offset: only null says that there are none.
        let places = cpus.possible().iter().filter_map(|&cpu| cpus.place(at, cpu)).filter(|_| at.0 != 0);
        for place in places {
            match view.mirror::<Stats>(place) {
                Ok(one) => {
                    sum.0 = sum.0.wrapping_add(one.cnt);
                    sum.1 = sum.1.wrapping_add(one.nsecs);
                    sum.2 = one.misses.ok().map(|misses| misses.wrapping_add(sum.2.unwrap_or(0)));
                }
                Err(error) => {
                    self.faults.push(format!("run counts of BPF program {id}: {error}"));
                    break;
                }
            }
        }
        sum
    }

    /// The same, with the programs marked whose object has its `struct btf` at `btf`, and with the names that `whose` has for such places.
    pub(super) fn of_scheduler(
        mut self,
        btf: Option<KernelVirt>,
        whose: impl Fn(KernelVirt) -> Option<String>,
    ) -> Self {
        for program in &mut self.programs {
            program.of_scheduler = btf == Some(program.btf);
            program.scheduler = whose(program.btf);
        }
        self
    }

    /// Which maps each of them uses.
    pub(super) fn used_maps(&self) -> Vec<UsedMaps> {
        let one = |program: &BpfProgram| UsedMaps { btf: program.btf, map_ids: program.map_ids.clone() };
        self.programs.iter().map(one).collect()
    }

    /// Names of code that belongs to no program.
    #[cfg(test)]
    pub(crate) fn of_symbols(symbols: Vec<JitSymbol>) -> Self {
        Self { symbols, ..Self::default() }
    }

    /// The programs, ascending by id.
    #[must_use]
    pub fn programs(&self) -> &[BpfProgram] {
        &self.programs
    }

    /// Where the `struct btf` of a program's object is; `None` where it has none, or there is no such program.
    pub(crate) fn object(&self, id: u32) -> Option<KernelVirt> {
        self.program(id).map(|program| program.btf).filter(|btf| btf.0 != 0)
    }

    /// A program by its id.
    #[must_use]
    pub fn program(&self, id: u32) -> Option<&BpfProgram> {
        self.programs.iter().find(|program| program.id == id)
    }

    /// The named range of BPF code that an address is in, and the distance from its beginning in bytes.
    #[must_use]
    pub fn at(&self, address: KernelVirt) -> Option<(&JitSymbol, u64)> {
        let after = self.symbols.partition_point(|symbol| symbol.start <= address);
        let symbol = self.symbols.get(after.checked_sub(1)?)?;
        (address < symbol.end).then(|| (symbol, address.0 - symbol.start.0))
    }

    /// The names of BPF code, ascending by address: programs, subprograms, trampolines.
    #[must_use]
    pub fn symbols(&self) -> &[JitSymbol] {
        &self.symbols
    }

    /// The source line of a call in the code that the kernel calls `symbol`: the one that returns to `offset` in it. `None` where
    /// there is no such code, or its program was loaded without lines.
    ///
    /// # Errors
    /// When the program or its table cannot be read.
    pub(crate) fn line_of_call(
        &self,
        view: &KernelView<'_>,
        symbol: &str,
        offset: u64,
    ) -> Result<Option<String>, KernelError> {
        let Some(code) = self.symbols.iter().find(|code| code.name == symbol) else { return Ok(None) };
        let (Some(program), Some(back)) = (code.program, offset.checked_sub(1)) else { return Ok(None) };
        let at = KernelVirt(code.start.0.wrapping_add(back));
        if at >= code.end {
            return Ok(None);
        }
        line_of(view, program, code.start, at)
    }

    /// What could not be read, or was left out.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }
}

/// The maps that a program uses, and whose it is.
#[derive(Clone, Debug)]
pub(in crate::kernel) struct UsedMaps {
    /// Where the `struct btf` of its object is; 0 for none.
    pub btf: KernelVirt,
    /// Ids of the maps, ascending.
    pub map_ids: Vec<u32>,
}

impl UsedMaps {
    /// Those of every program. One that cannot be read is passed over.
    ///
    /// # Errors
    /// When the table of programs itself cannot be read.
    pub fn read(view: &KernelView<'_>) -> Result<Vec<Self>, KernelError> {
        let one = |(_, at): (u64, KernelVirt)| {
            let aux: Aux = view.mirror(view.mirror::<ProgAux>(at).ok()?.aux).ok()?;
            let map_ids = map_ids(view, aux.used_maps, aux.used_map_cnt).ok()?;
            Some(Self { btf: aux.btf, map_ids })
        };
        Ok(idr_entries(view, "prog_idr", MAX_PROGRAMS)?.into_iter().filter_map(one).collect())
    }
}

/// The maps of `bpf_prog_aux.used_maps`, with where they are.
pub(in crate::kernel) fn used_maps(
    view: &KernelView<'_>,
    at: KernelVirt,
    count: u32,
) -> Result<Vec<(KernelVirt, BpfMap)>, KernelError> {
    let count = if at.0 == 0 { 0 } else { (count as usize).min(MAX_MAPS) };
    let pointers = view.bytes(at, count * 8)?;
    bytes::u64s(&pointers).map(|map| Ok((KernelVirt(map), view.mirror(KernelVirt(map))?))).collect()
}

fn map_ids(view: &KernelView<'_>, at: KernelVirt, count: u32) -> Result<Vec<u32>, KernelError> {
    let mut ids: Vec<u32> = used_maps(view, at, count)?.into_iter().map(|(_, map)| map.id).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Most names that are read.
const MAX_SYMBOLS: usize = 65_536;
/// Longest code that is of one name, in bytes. A longer range is none, and its name, 512 bytes, is not read: a list of
/// garbage ends soon.
const MAX_CODE_BYTES: u64 = 64 << 20;

/// A range of BPF machine code with its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JitSymbol {
    /// First byte.
    #[serde(serialize_with = "in_hexadecimal")]
    pub start: KernelVirt,
    /// Just past the last byte.
    #[serde(serialize_with = "in_hexadecimal")]
    pub end: KernelVirt,
    /// The kernel's name for it: `bpf_prog_6deef7357e7b4530_demo_dispatch`.
    pub name: String,
    /// Id of the program that it is the code of; `None` for trampolines and the like.
    pub program: Option<u32>,
}

impl BpfProgram {
    /// The kernel's own name for its code.
    pub(crate) fn symbol(&self) -> String {
        match self.name.as_str() {
            "" => format!("bpf_prog_{}", self.tag),
            name => format!("bpf_prog_{}_{name}", self.tag),
        }
    }
}

impl JitSymbol {
    /// The code of a program.
    fn of_program(program: &BpfProgram) -> Option<Self> {
        let end = program.jited_at.0.checked_add(u64::from(program.main_bytes))?;
        (program.main_bytes != 0).then(|| Self {
            start: program.jited_at,
            end: KernelVirt(end),
            name: program.symbol(),
            program: Some(program.id),
        })
    }
}

/// An address as JSON's readers take it whole: a string.
fn in_hexadecimal<S: Serializer>(at: &KernelVirt, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(at)
}

/// The list `bpf_kallsyms`. What cannot be read goes to `gaps`; what names nothing is left out.
fn read_symbols(view: &KernelView<'_>, gaps: &mut Gaps) -> Result<Vec<JitSymbol>, KernelError> {
    let head = view.symbol("bpf_kallsyms")?;
    let named =
        list_entries(view, head, ("bpf_ksym", "lnode"), MAX_SYMBOLS, gaps).into_iter().filter_map(|at| {
            let ksym: Ksym = gaps.read(format_args!("the name at {at}"), view.mirror(at))?;
            let bytes = ksym.end.checked_sub(ksym.start)?;
            if !(1..=MAX_CODE_BYTES).contains(&bytes) {
                return None;
            }
            let name: KsymName = gaps.read(format_args!("the name at {at}"), view.mirror(at))?;
            let (start, end) = (KernelVirt(ksym.start), KernelVirt(ksym.end));
            Some(JitSymbol { start, end, name: name.name.0, program: None })
        });
    Ok(named.collect())
}
