//! Where a probed function begins, what it is given and what it returns, by the kernel's own types.
//!
//! Sources: the System V ABI of x86-64, section 3.2.3; `struct bpf_prog_aux` and `bpf_get_prog_name` of Linux;
//! `kernel/sched/ext.c`, whose stubs of operations have the names of their arguments.

use std::collections::BTreeSet;

use super::ProbeTarget;
use crate::btf::{BtfError, Kind, Signature, TypeId, Types, alike};
use crate::kernel::scx::SchedulerObjects;
use crate::kernel::{BpfPrograms, JitSymbol, KernelView};
use crate::path::{FieldPath, Step};
use crate::text::Candidates;
use crate::units::KernelVirt;
use crate::value::ValueError;
use crate::watch::Missing;

/// `endbr64`, and what a kernel makes of it where it is not needed. A direct call goes past it (`apply_direct_call_offset` in
/// `arch/x86/kernel/alternative.c`), so that it is not executed at each call.
const ENDBR: [[u8; 4]; 2] = [[0xf3, 0x0f, 0x1e, 0xfa], [0x0f, 0x1f, 0x40, 0xd6]];
/// What every name of a BPF program's code begins with; the hash of its instructions and `_` follow.
const BPF: &str = "bpf_prog_";
/// Digits of that hash.
const TAG_DIGITS: usize = 16;
/// What the stubs of sched_ext's operations begin with; the operation's name follows.
const STUB: &str = "sched_ext_ops__";
/// The same in older kernels, at the end.
const OLD_STUB: &str = "_stub";
/// Ends the names of arguments that may be null, which the verifier reads (`bpf_struct_ops.c`).
const MAY_BE_NULL: &str = "__nullable";
/// What is read of an argument that is a task, unless the probe says what to read.
const OF_A_TASK: [&str; 2] = ["pid", "comm"];
/// Between a function and what the compiler has made of it besides, where a trace tells what is armed.
pub(super) const BESIDE: &str = ", beside ";
/// Most functions that are listed where there are several.
const LISTED: usize = 4;

/// A function that is there: where the machine stops at a call, and how its arguments are read then.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeSite {
    /// The first instruction that every caller executes.
    pub at: KernelVirt,
    /// What the kernel calls it: `enqueue_task_scx`, `bpf_prog_6deef7357e7b4530_demo_dispatch`.
    pub place: String,
    /// What the compiler has made of the same function besides, as `f.constprop.0`: their calls go past this one.
    pub clones: Vec<String>,
    /// It is the code of a BPF program, which can go away.
    pub is_program: bool,
    /// What is read at each call, in order.
    pub(super) values: Vec<FieldPath>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) convention: Convention,
    /// Type of the result; `None` for a function that returns nothing.
    pub(super) returns: Option<TypeId>,
}

/// An argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parameter {
    pub name: String,
    /// Its type, of the kernel's types; 0 where nothing is known of it.
    pub id: TypeId,
}

/// The position of an argument: by its name, or by `arg` and its number from 0.
pub(super) fn position(parameters: &[Parameter], name: &str) -> Option<usize> {
    let by_name = parameters.iter().position(|parameter| parameter.name == name);
    let by_number = || name.strip_prefix("arg")?.parse().ok().filter(|nth| *nth < parameters.len());
    by_name.or_else(by_number)
}

/// Where arguments are at the first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convention {
    /// rdi, rsi, rdx, rcx, r8, r9, then the stack above the return address.
    SystemV,
    /// rdi points at words, one for each.
    Context,
}

impl ProbeSite {
    /// What is read at each call: `p->pid`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.values.iter().map(ToString::to_string).collect()
    }

    /// The function, and what there is beside it whose calls are not seen: `f, beside f.constprop.0`.
    #[must_use]
    pub fn place_in_words(&self) -> String {
        match self.clones.as_slice() {
            [] => self.place.clone(),
            clones => format!("{}{BESIDE}{}", self.place, clones.join(", ")),
        }
    }
}

impl ProbeTarget {
    /// Where the function is now.
    ///
    /// # Errors
    /// [`Missing`]: why it is nowhere, with candidates for a misspelt name; that it has no such argument.
    pub fn find(&self, view: &KernelView<'_>, programs: &BpfPrograms) -> Result<ProbeSite, Missing> {
        if let Some(name) = self.scheduler() {
            return self.site_of_scheduler(view, programs, name);
        }
        match of_kernel(view, self.function())? {
            Some(at) => self.site_of_kernel(view, at),
            None => match of_programs(programs, self.function(), &below(view)) {
                Some(code) => self.site_of_program(view, programs, code),
                None => Err(absent(view, programs, self.function())),
            },
        }
    }

    /// Whether it waits for a scheduler that may come at any time, whatever else is enabled.
    #[must_use]
    pub fn waits_for_scheduler(&self, view: &KernelView<'_>) -> bool {
        let Some(name) = self.scheduler() else { return false };
        let is_there =
            |objects: SchedulerObjects| objects.named(name).is_some() || objects.is_root_alone(name);
        !SchedulerObjects::read(view).is_ok_and(is_there)
    }

    /// A program of the scheduler of that name.
    fn site_of_scheduler(
        &self,
        view: &KernelView<'_>,
        programs: &BpfPrograms,
        name: &str,
    ) -> Result<ProbeSite, Missing> {
        let objects = SchedulerObjects::read(view).map_err(|error| Missing::Now(error.to_string()))?;
        let found = if objects.is_root_alone(name) {
            of_programs(programs, self.function(), &BTreeSet::new())
        } else {
            let its = objects.named(name).ok_or_else(|| {
                let names = objects.names();
                let candidates = Candidates::new(name, names.iter().map(String::as_str));
                Missing::Now(format!("there is no scheduler `{name}`{candidates}"))
            })?;
            // As a path of that name: which one is meant nobody can say.
            if let Some(which) = objects.several(name) {
                let error = ValueError::SeveralSchedulers { name: name.to_owned(), which };
                return Err(Missing::Now(error.to_string()));
            }
            let is_its = |code: &&JitSymbol| object(programs, code).is_some_and(|at| its.contains(&at));
            named(programs, self.function()).filter(is_its).max_by_key(|code| code.program)
        };
        match found {
            Some(code) => self.site_of_program(view, programs, code),
            None => {
                let function = self.function();
                let names = programs.symbols().iter().filter_map(own_name);
                let candidates = Candidates::new(function, names);
                Err(Missing::Now(format!("the scheduler `{name}` has no program `{function}`{candidates}")))
            }
        }
    }

    fn site_of_kernel(&self, view: &KernelView<'_>, at: KernelVirt) -> Result<ProbeSite, Missing> {
        let types = view.types();
        let signature = function(types, self.function()).and_then(|id| types.signature(id).ok().flatten());
        let mut parameters = Vec::new();
        // Those behind one that may be in several registers, or in memory, could be anywhere.
        let placed = signature.iter().flat_map(|signature| &signature.parameters);
        for (name, id) in placed.take_while(|(_, id)| is_word(types, *id)) {
            parameters.push(Parameter { name: (*name).to_owned(), id: *id });
        }
        let place = self.function().to_owned();
        let mut site = self.site(view, at, place, parameters, Convention::SystemV, signature)?;
        site.clones = parts(view, self.function());
        Ok(site)
    }

    fn site_of_program(
        &self,
        view: &KernelView<'_>,
        programs: &BpfPrograms,
        code: &JitSymbol,
    ) -> Result<ProbeSite, Missing> {
        let types = view.types();
        let program = code.program.and_then(|id| programs.program(id));
        // Its functions have their arguments in registers, and no type information of the kernel names them.
        let operation = program
            .filter(|program| program.jited_at == code.start && program.kind == "struct_ops")
            .and_then(|program| program.attach_to.as_deref());
        let member = operation.and_then(|name| types.struct_field("sched_ext_ops", name).ok());
        let signature = member.and_then(|member| types.signature(member.type_id).ok().flatten());
        let stub = operation.and_then(|name| {
            function(types, &format!("{STUB}{name}"))
                .or_else(|| function(types, &format!("{name}{OLD_STUB}")))
        });
        let named = stub.and_then(|stub| types.signature(stub).ok().flatten());
        let name_of = |nth: usize| {
            let (name, _) = named.as_ref()?.parameters.get(nth)?;
            Some(name.strip_suffix(MAY_BE_NULL).unwrap_or(name).to_owned())
        };
        let given = signature.iter().flat_map(|signature| &signature.parameters).enumerate();
        let parameters = given.map(|(nth, (name, id))| {
            let name = Some((*name).to_owned()).filter(|name| !name.is_empty()).or_else(|| name_of(nth));
            Parameter { name: name.unwrap_or_default(), id: *id }
        });
        let parameters = parameters.collect();
        let mut site =
            self.site(view, code.start, code.name.clone(), parameters, Convention::Context, signature)?;
        site.is_program = true;
        Ok(site)
    }

    fn site(
        &self,
        view: &KernelView<'_>,
        at: KernelVirt,
        place: String,
        mut parameters: Vec<Parameter>,
        convention: Convention,
        signature: Option<Signature<'_>>,
    ) -> Result<ProbeSite, Missing> {
        let types = view.types();
        for (nth, parameter) in parameters.iter_mut().enumerate() {
            if parameter.name.is_empty() {
                parameter.name = format!("arg{nth}");
            }
        }
        let values = match self.wanted() {
            Some(wanted) => {
                for path in wanted {
                    check(types, self.function(), &parameters, path).map_err(Missing::Ever)?;
                }
                wanted.to_vec()
            }
            None => parameters.iter().flat_map(|parameter| all_of(types, parameter)).collect(),
        };
        let begin: Option<[u8; 4]> = view.bytes(at, 4).ok().and_then(|bytes| bytes.try_into().ok());
        let begin = begin.ok_or_else(|| Missing::Now(format!("the code of `{place}` cannot be read")))?;
        let at = if ENDBR.contains(&begin) { KernelVirt(at.0.wrapping_add(4)) } else { at };
        let returns = signature.map(|signature| signature.returns);
        let returns = returns.filter(|id| types.resolve(*id).is_ok_and(|(id, _)| id != TypeId(0)));
        let clones = Vec::new();
        Ok(ProbeSite { at, place, clones, is_program: false, values, parameters, convention, returns })
    }
}

/// Whether an address is in the kernel's own code.
fn is_code(view: &KernelView<'_>, at: KernelVirt) -> bool {
    let symbols = view.profile().symbols();
    let within = |(from, to): (&str, &str)| {
        symbols.address(from).zip(symbols.address(to)).is_some_and(|(from, to)| (from..to).contains(&at))
    };
    [("_stext", "_etext"), ("_sinittext", "_einittext")].into_iter().any(within)
}

/// The kernel's function of that name; `None` where it has no symbol of it.
fn of_kernel(view: &KernelView<'_>, name: &str) -> Result<Option<KernelVirt>, Missing> {
    let all: Vec<KernelVirt> = view.profile().symbols().named(name).map(|symbol| symbol.address).collect();
    let mut code: Vec<KernelVirt> = all.iter().copied().filter(|at| is_code(view, *at)).collect();
    code.sort_unstable();
    code.dedup();
    match (code.as_slice(), all.first()) {
        ([at], _) => Ok(Some(*at)),
        ([], None) => Ok(None),
        ([], Some(at)) => {
            Err(Missing::Ever(format!("`{name}` is no function: it is data of the kernel, at {at}")))
        }
        (several, _) => {
            let listed: Vec<String> = several.iter().take(LISTED).map(ToString::to_string).collect();
            let (count, at) = (several.len(), listed.join(", "));
            Err(Missing::Ever(format!("the kernel has {count} functions `{name}`, at {at}: which is meant?")))
        }
    }
}

/// All code of BPF programs, or functions of them, of that name.
fn named<'p>(programs: &'p BpfPrograms, name: &str) -> impl Iterator<Item = &'p JitSymbol> {
    let named =
        programs.symbols().iter().filter(move |code| code.name == name || own_name(code) == Some(name));
    named.filter(|code| code.program.is_some())
}

/// Where the `struct btf` is of the object that a program is of.
fn object(programs: &BpfPrograms, code: &JitSymbol) -> Option<KernelVirt> {
    code.program.and_then(|id| programs.object(id))
}

/// The code of a BPF program or function of that name, the one that was loaded last of several; one of a scheduler `below` the root only
/// where nobody else has any.
fn of_programs<'p>(
    programs: &'p BpfPrograms,
    name: &str,
    below: &BTreeSet<KernelVirt>,
) -> Option<&'p JitSymbol> {
    let is_below = |code: &JitSymbol| object(programs, code).is_some_and(|at| below.contains(&at));
    named(programs, name).max_by_key(|code| (!is_below(code), code.program))
}

/// The objects of the schedulers below the root; none where that cannot be read.
fn below(view: &KernelView<'_>) -> BTreeSet<KernelVirt> {
    SchedulerObjects::read(view).map(|objects| objects.below()).unwrap_or_default()
}

/// What its author called a program or a function of one: at the end of the kernel's name for its code.
fn own_name(code: &JitSymbol) -> Option<&str> {
    let rest = code.name.strip_prefix(BPF)?;
    rest.get(TAG_DIGITS..)?.strip_prefix('_')
}

/// The function of that name in the types; functions are in no index.
fn function(types: &Types, name: &str) -> Option<TypeId> {
    types.of_kind(Kind::Func).find(|id| types.name(*id) == Ok(name))
}

/// What the compiler has made of a function: `f.isra.0` with other arguments, `f.constprop.0` for some callers, `f.part.0` of a part of it.
/// What it has only put elsewhere, as it is seldom executed, is none.
fn parts(view: &KernelView<'_>, name: &str) -> Vec<String> {
    let symbols = view.profile().symbols().iter();
    let is_part = |other: &str| {
        other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')) && !other.ends_with(".cold")
    };
    let mut parts: Vec<String> = symbols
        .filter(|symbol| is_part(symbol.name) && is_code(view, symbol.address))
        .take(LISTED)
        .map(|symbol| symbol.name.to_owned())
        .collect();
    parts.sort_unstable();
    parts.dedup();
    parts
}

/// Why there is no such function.
fn absent(view: &KernelView<'_>, programs: &BpfPrograms, name: &str) -> Missing {
    let symbols = view.profile().symbols();
    let parts = parts(view, name);
    if let Some(part) = parts.first() {
        return Missing::Ever(format!(
            "the compiler has changed `{name}`, so that its arguments are others: there is {}; a probe of that has it in \
             quotes, as \"{part}\"()",
            parts.join(", ")
        ));
    }
    if function(view.types(), name).is_some() {
        return Missing::Ever(format!(
            "`{name}` is a part of its callers: the compiler has put it into them"
        ));
    }
    let code = symbols.iter().filter(|symbol| alike(name, symbol.name) && is_code(view, symbol.address));
    let names = code.map(|symbol| symbol.name).chain(programs.symbols().iter().filter_map(own_name));
    let candidates = Candidates::new(name, names);
    Missing::Now(format!(
        "the kernel has no function `{name}`, nor is a BPF program of that name loaded{candidates}"
    ))
}

/// Whether an argument of this type is one word, which one register or place on the stack has.
fn is_word(types: &Types, id: TypeId) -> bool {
    let kind = types.resolve(id).and_then(|(id, _)| types.kind(id));
    let is_number = matches!(kind, Ok(Kind::Int | Kind::Ptr | Kind::Enum | Kind::Enum64));
    is_number && types.size_of(id).is_ok_and(|bytes| bytes <= 8)
}

/// What is read of an argument if nobody says what to read.
fn all_of(types: &Types, parameter: &Parameter) -> Vec<FieldPath> {
    let itself = || Step::Field(parameter.name.clone());
    let mut all = vec![FieldPath::from_iter([itself()])];
    let target = types.target_of(parameter.id).ok().flatten();
    let is_task =
        target.is_some_and(|id| types.resolve(id).is_ok_and(|(id, _)| types.name(id) == Ok("task_struct")));
    if is_task {
        let member = |name: &str| [itself(), Step::Deref, Step::Field(name.to_owned())];
        all.extend(OF_A_TASK.iter().map(|name| FieldPath::from_iter(member(name))));
    }
    all
}

/// Whether a path begins with an argument, follows its types and ends at something that can be recorded; else why not.
fn check(types: &Types, function: &str, parameters: &[Parameter], path: &FieldPath) -> Result<(), String> {
    let no = |error: BtfError| error.to_string();
    let mut steps = path.steps().iter();
    let Some(Step::Field(name)) = steps.next() else {
        return Err(format!("`{path}` begins with no argument"));
    };
    let Some(parameter) = position(parameters, name).and_then(|nth| parameters.get(nth)) else {
        return Err(match parameters {
            [] => format!(
                "nothing is known of what `{function}` is given: `{function}()` records its calls alone"
            ),
            _ => {
                let names = parameters.iter().map(|parameter| parameter.name.as_str());
                format!("`{function}` has no argument `{name}`{}", Candidates::new(name, names))
            }
        });
    };
    let mut at = parameter.id;
    for step in steps {
        at = match step {
            Step::Field(name) => {
                let of = types.describe(at);
                if types.target_of(at).map_err(no)?.is_some() {
                    return Err(format!(
                        "`{path}`: a `{of}` has no members: `->{name}` goes to what it points at"
                    ));
                }
                let members = types.members(at).map_err(no)?.unwrap_or_default();
                let names = members.iter().filter_map(|member| types.member_name(member).ok());
                let field = if members.is_empty() { None } else { types.member(at, name).map_err(no)? };
                field
                    .ok_or_else(|| {
                        format!("`{path}`: a `{of}` has no `{name}`{}", Candidates::new(name, names))
                    })?
                    .type_id
            }
            Step::Deref | Step::Index(_) | Step::Named(_) => match types.target_of(at).map_err(no)? {
                Some(target) => target,
                None => {
                    return Err(format!("`{path}`: a `{}` is no pointer and no array", types.describe(at)));
                }
            },
            // What it leads to is told when it is read.
            Step::Cast(_) => return Ok(()),
        };
    }
    // It would be unread at every call. A struct with one member is read as that, as `atomic_t` is.
    let members = if at == TypeId(0) { None } else { types.members(at).map_err(no)? };
    match members {
        Some(members) if members.len() != 1 => {
            let of = types.describe(at);
            Err(format!("`{path}` is a `{of}`, and no number, address or text: say which member of it"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::toy_kernel;

    #[test]
    fn what_is_no_function_is_refused_and_what_is_not_there_is_waited_for() {
        let (guest, _) = toy_kernel(0);
        let (profile, memory) = (guest.profile(), guest.ram);
        let view = KernelView::new(&profile, &memory);
        let programs = BpfPrograms::default();
        let find = |text: &str| text.parse::<ProbeTarget>().expect("a target").find(&view, &programs);
        assert!(
            matches!(find("jiffies_64"), Err(Missing::Ever(why)) if why.contains("is no function: it is data"))
        );
        assert!(matches!(find("no_such"), Err(Missing::Now(why)) if why.contains("no function `no_such`")));
    }

    #[test]
    fn a_path_that_leaves_the_types_is_refused_with_what_there_is() {
        let (guest, _) = toy_kernel(0);
        let profile = guest.profile();
        let types = profile.types();
        let is_pointer = |id: &TypeId| types.describe(*id) == "struct task_struct *";
        let id = types.of_kind(Kind::Ptr).find(is_pointer).expect("a pointer to a task");
        let parameters = [Parameter { name: "p".to_owned(), id }];
        let checked = |path: &str| check(types, "f", &parameters, &path.parse().expect("a path"));
        assert_eq!(checked("p->pid"), Ok(()));
        assert_eq!((checked("p"), checked("arg0->pid")), (Ok(()), Ok(())));
        assert!(checked("arg1").is_err_and(|why| why.contains("has no argument `arg1`")));
        for (path, why) in [
            ("q->pid", "`f` has no argument `q`; did you mean `p`?"),
            ("p.pid", "`->pid` goes to what it points at"),
            ("p->pidd", "did you mean `pid`?"),
            ("p->pid->x", "is no pointer and no array"),
            ("p->pid.x", "has no `x`"),
            ("p->se", "`p->se` is a `struct sched_entity`, and no number, address or text"),
        ] {
            let said = checked(path).expect_err(path);
            assert!(said.contains(why), "{path}: {said}");
        }
        let none = check(types, "f", &[], &"p".parse().expect("a path")).expect_err("no arguments");
        assert!(none.contains("nothing is known of what `f` is given"), "{none}");
        let paths: Vec<String> = all_of(types, &parameters[0]).iter().map(ToString::to_string).collect();
        assert_eq!(paths, ["p", "p->pid", "p->comm"]);
    }

    #[test]
    fn a_programs_own_name_follows_its_tag() {
        let code = |name: &str, program| JitSymbol {
            start: KernelVirt(0),
            end: KernelVirt(8),
            name: name.to_owned(),
            program,
        };
        let codes = vec![
            code("bpf_prog_6deef7357e7b4530_demo_dispatch", Some(3)),
            code("bpf_prog_0123456789abcdef_demo_dispatch", Some(9)),
            code("bpf_trampoline_123", None),
            code("bpf_prog_6deef7357e7b4530", Some(4)),
        ];
        assert_eq!(
            codes.iter().map(own_name).collect::<Vec<_>>(),
            [Some("demo_dispatch"), Some("demo_dispatch"), None, None]
        );
        let programs = BpfPrograms::of_symbols(codes);
        let none = BTreeSet::new();
        let found = |name| of_programs(&programs, name, &none).and_then(|code| code.program);
        assert_eq!(found("demo_dispatch"), Some(9));
        assert_eq!(found("bpf_prog_6deef7357e7b4530_demo_dispatch"), Some(3));
        assert_eq!((found("dispatch"), found("bpf_trampoline_123")), (None, None));
    }
}
