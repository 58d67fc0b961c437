//! sched_ext's state in a sample: its state, its scheduler and how that scheduler ended.
//!
//! Source: `kernel/sched/ext.c` of Linux. Two generations of kernels are read:
//!
//! | | 6.12 to 6.15 | later |
//! |---|---|---|
//! | scheduler | `scx_ops` | `scx_root->ops` |
//! | exit | `scx_exit_kind`, `scx_exit_info` | `scx_root->exit_kind`, `->exit_info` |
//! | state | `scx_ops_enable_state_var` | `scx_enable_state_var` |
//! | watchdog | `scx_watchdog_timeout` | `scx_root->watchdog_timeout` or as before |
//!
//! When a scheduler is ejected, `scx_root` becomes null, but its `struct scx_sched` lives on until the loader closes its
//! link; the `struct_ops` map points at it (`sched_ext_ops.priv`), and that is where its end is read from.

use crate::btf::{Kind, TypeId};
use crate::kernel::cputime::jiffy_ns;
use crate::kernel::maps::MapsRead;
use crate::kernel::mirror::{Text, find_field, mirror};
use crate::kernel::{FieldMissing, KernelError, KernelView};
use crate::trace::record::ScxState;
use crate::units::KernelVirt;

mirror! {
    /// `struct scx_sched`: a scheduler.
    struct Sched, SchedLayout = "scx_sched" {
        ops_name: Result<Text, FieldMissing> = "ops.name",
        exit_kind: u64,
        exit_info: KernelVirt,
        bypass_depth: Result<i64, FieldMissing>,
        watchdog_timeout: Result<u64, FieldMissing>,
    }
}

mirror! {
    /// `struct scx_exit_info`: how a scheduler ended.
    pub(super) struct ExitInfo, ExitInfoLayout = "scx_exit_info" {
        kind: u64,
        exit_code: i64,
        reason: KernelVirt,
        msg: KernelVirt,
        dump: KernelVirt,
    }
}

mirror! {
    /// `struct sched_ext_ops`, as kernels have it that keep one for all.
    struct Ops, OpsLayout = "sched_ext_ops" {
        name: Text,
    }
}

/// Longest exit message that is read, in bytes (`SCX_EXIT_MSG_LEN` is 1024).
const MAX_MESSAGE_BYTES: usize = 8 << 10;
/// Longest exit dump that is read, in bytes (`SCX_EXIT_DUMP_DFL_LEN` is 32 KiB, and a scheduler may ask for more).
const MAX_DUMP_BYTES: usize = 1 << 20;

/// Read sched_ext's state; `None` where the kernel is built without it. What could not be read is added to `faults`.
///
/// # Errors
/// [`KernelError`] when the state itself cannot be read.
pub(in crate::kernel) fn read_scx(
    view: &KernelView<'_>,
    maps: &MapsRead,
    faults: &mut Vec<String>,
) -> Result<Option<ScxState>, KernelError> {
    let symbols = view.profile().symbols();
    let Some(state) = state_of(view)? else { return Ok(None) };
    let mut state = ScxState { state, ..ScxState::default() };
    let number = |names: &[&str]| -> Option<u64> {
        let at = names.iter().find_map(|name| symbols.address(name))?;
        view.u64(at).ok()
    };
    state.enable_seq = number(&["scx_enable_seq"]);
    state.nr_rejected = number(&["scx_nr_rejected"]);
    let mut timeout_jiffies = number(&["scx_watchdog_timeout"]);
    let depth = symbols.address("scx_bypass_depth").or_else(|| symbols.address("scx_ops_bypass_depth"));
    state.bypass_depth = depth.and_then(|at| view.u32(at).ok()).map(|raw| i64::from(raw.cast_signed()));

    match scheduler(view, maps)? {
        Some(at) => match view.mirror::<Sched>(at) {
            Ok(sched) => {
                state.ops_name = sched.ops_name.ok().map(|name| name.0);
                state.exit_kind = sched.exit_kind;
                state.bypass_depth = sched.bypass_depth.ok().or(state.bypass_depth);
                timeout_jiffies = sched.watchdog_timeout.ok().or(timeout_jiffies);
                exit(view, sched.exit_info, &mut state, faults);
            }
            Err(error) => faults.push(format!("the scheduler of sched_ext: {error}")),
        },
        None => global_scheduler(view, &mut state, faults),
    }
    state.exit_kind_name = exit_kind_name(view, state.exit_kind);
    state.watchdog_timeout_ns =
        timeout_jiffies.zip(jiffy_ns(view)).and_then(|(count, each)| count.checked_mul(each));
    Ok(Some(state))
}

/// The name of sched_ext's state; `None` where the kernel is built without it.
///
/// # Errors
/// [`KernelError`] when it cannot be read.
pub(in crate::kernel) fn state_of(view: &KernelView<'_>) -> Result<Option<String>, KernelError> {
    let variable = ["scx_enable_state_var", "scx_ops_enable_state_var"];
    let at = variable.iter().find_map(|name| view.profile().symbols().address(name));
    at.map(|at| Ok(state_name(view, view.u32(at)?))).transpose()
}

/// `enabled` for `SCX_ENABLED` or `SCX_OPS_ENABLED`, as sysfs prints it.
pub(super) fn state_name(view: &KernelView<'_>, value: u32) -> String {
    let value = i128::from(value.cast_signed());
    let name = ["scx_enable_state", "scx_ops_enable_state"]
        .iter()
        .find_map(|name| view.types().enum_name_of(name, value));
    match name {
        Some(name) => name.trim_start_matches("SCX_").trim_start_matches("OPS_").to_lowercase(),
        None => format!("unknown ({value})"),
    }
}

pub(super) fn exit_kind_name(view: &KernelView<'_>, kind: u64) -> Option<String> {
    view.types().enum_name_of("scx_exit_kind", i128::from(kind)).map(str::to_owned)
}

/// The `struct scx_sched` that is enabled, or else the one that a `struct_ops` map still holds.
fn scheduler(view: &KernelView<'_>, maps: &MapsRead) -> Result<Option<KernelVirt>, KernelError> {
    let Some(root) = view.profile().symbols().address("scx_root") else { return Ok(None) };
    if let Some(sched) = view.pointer(root)? {
        return Ok(Some(sched));
    }
    Ok(held_schedulers(view, &maps.struct_ops)?.first().copied())
}

/// The `struct scx_sched`s that `struct_ops` maps hold; each map by its place and the kernel type of its value.
pub(super) fn held_schedulers(
    view: &KernelView<'_>,
    maps: &[(KernelVirt, u32)],
) -> Result<Vec<KernelVirt>, KernelError> {
    let held = maps.iter().map(|&(map, value_type)| held_by(view, map, value_type));
    Ok(held.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// `kvalue.data.priv` of a `struct bpf_struct_ops_map`, if its value is sched_ext's.
pub(in crate::kernel) fn held_by(
    view: &KernelView<'_>,
    map: KernelVirt,
    value_type: u32,
) -> Result<Option<KernelVirt>, KernelError> {
    let Some(at) = held_at(view, map, value_type)? else { return Ok(None) };
    view.pointer(at)
}

/// Where that pointer is. The kernel clears it when the scheduler has ended and before its maps can go (`bpf_scx_unreg`).
pub(super) fn held_at(
    view: &KernelView<'_>,
    map: KernelVirt,
    value_type: u32,
) -> Result<Option<KernelVirt>, KernelError> {
    let types = view.types();
    let value = TypeId(value_type);
    let is_sched_ext = types.kind(value) == Ok(Kind::Struct)
        && types.name(value).is_ok_and(|name| name.starts_with("bpf_struct_ops_sched_ext_ops"));
    if !is_sched_ext {
        return Ok(None);
    }
    let Ok(kvalue) = find_field(types, view.profile().release(), "bpf_struct_ops_map", &["kvalue"])? else {
        return Ok(None);
    };
    let Ok(held) = types.field(value, "data.priv") else { return Ok(None) };
    Ok(Some(KernelVirt(map.0.wrapping_add(kvalue.offset).wrapping_add(held.offset_bytes()))))
}

/// What the scheduler's exit information says, into `state`.
fn exit(view: &KernelView<'_>, at: KernelVirt, state: &mut ScxState, faults: &mut Vec<String>) {
    if at.0 == 0 {
        return;
    }
    let info: ExitInfo = match view.mirror(at) {
        Ok(info) => info,
        Err(error) => return faults.push(format!("sched_ext's exit information: {error}")),
    };
    // The scheduler's own `exit_kind` becomes SCX_EXIT_DONE at the end; the cause stays here.
    if info.kind != 0 {
        state.exit_kind = info.kind;
    }
    state.exit_code = info.exit_code;
    let fault = |what: &str, error| faults.push(format!("sched_ext's exit {what}: {error}"));
    [state.exit_reason, state.exit_message, state.exit_dump] = exit_text(view, &info, fault);
}

/// Reason, message and dump of an exit; `None` for those that are empty.
pub(super) fn exit_text(
    view: &KernelView<'_>,
    info: &ExitInfo,
    mut fault: impl FnMut(&str, KernelError),
) -> [Option<String>; 3] {
    let texts = [
        ("reason", info.reason, MAX_MESSAGE_BYTES),
        ("message", info.msg, MAX_MESSAGE_BYTES),
        ("dump", info.dump, MAX_DUMP_BYTES),
    ];
    texts.map(|(what, at, max)| {
        let text = if at.0 == 0 { Ok(String::new()) } else { view.text(at, max) };
        text.map_err(|error| fault(what, error)).ok().filter(|text| !text.is_empty())
    })
}

/// Kernels that have one scheduler and keep it in variables.
fn global_scheduler(view: &KernelView<'_>, state: &mut ScxState, faults: &mut Vec<String>) {
    let symbols = view.profile().symbols();
    if let Some(at) = symbols.address("scx_ops") {
        let name = view.mirror::<Ops>(at).map(|ops| ops.name.0);
        state.ops_name = name.ok().filter(|name| !name.is_empty());
    }
    if let Some(kind) = symbols.address("scx_exit_kind").and_then(|at| view.u32(at).ok()) {
        state.exit_kind = u64::from(kind);
    }
    if let Some(Ok(Some(info))) = symbols.address("scx_exit_info").map(|at| view.pointer(at)) {
        exit(view, info, state, faults);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Guest, Object, SEEDS};

    fn exit_info(guest: &mut Guest) -> Object {
        let info = guest.add("scx_exit_info");
        for (field, text) in [("dump", "the dump"), ("reason", "runnable task stall"), ("msg", "it waited")] {
            guest.point_at_text(info, field, text);
        }
        guest.set(info, "kind", 1026u32);
        guest.set_signed(info, "exit_code", -7);
        info
    }

    /// 250 Hz: TICK_NSEC 4000000, shifted by 8.
    fn clock(guest: &mut Guest) {
        let clock = guest.variable("clocksource_jiffies", "clocksource");
        guest.set(clock, "mult", 4_000_000u32 << 8);
        guest.set(clock, "shift", 8u32);
    }

    fn expect_exit(state: &ScxState) {
        assert_eq!((state.exit_kind, state.exit_kind_name.as_deref()), (1026, Some("SCX_EXIT_ERROR_STALL")));
        assert_eq!(state.exit_code, -7);
        assert_eq!(state.exit_reason.as_deref(), Some("runnable task stall"));
        assert_eq!(state.exit_message.as_deref(), Some("it waited"));
        assert_eq!(state.exit_dump.as_deref(), Some("the dump"));
        assert_eq!(state.ops_name.as_deref(), Some("demo"));
        assert_eq!(state.watchdog_timeout_ns, Some(2_000_000_000));
    }

    fn read(guest: &Guest, maps: &MapsRead) -> Option<ScxState> {
        let profile = guest.profile();
        let mut faults = Vec::new();
        let state = read_scx(&KernelView::new(&profile, &guest.ram), maps, &mut faults).unwrap();
        assert_eq!(faults, [""; 0]);
        state
    }

    /// A kernel with `scx_root`; gives the guest, `scx_root` and the scheduler.
    fn rooted(seed: u64) -> (Guest, Object, Object) {
        let mut guest = Guest::new(seed);
        guest.number("scx_enable_state_var", "u32", 1u32);
        clock(&mut guest);
        let info = exit_info(&mut guest);
        let sched = guest.add("scx_sched");
        guest.text(sched, "ops.name", "demo");
        guest.set(sched, "exit_info", info);
        guest.set(sched, "exit_kind", 1u32);
        guest.set_signed(sched, "bypass_depth", -2);
        guest.set(sched, "watchdog_timeout", 500u32);
        let root = guest.variable("scx_root", "ptr");
        (guest, root, sched)
    }

    #[test]
    fn a_kernel_without_sched_ext_has_no_state() {
        assert_eq!(read(&Guest::new(0), &MapsRead::default()), None);
    }

    #[test]
    fn the_enabled_scheduler_is_read_through_scx_root() {
        for seed in SEEDS {
            let (mut guest, root, sched) = rooted(seed);
            guest.set(root, "", sched);
            let state = read(&guest, &MapsRead::default()).unwrap();
            expect_exit(&state);
            assert_eq!((state.state.as_str(), state.bypass_depth), ("enabled", Some(-2)));
        }
    }

    #[test]
    fn an_ejected_scheduler_is_read_through_its_map() {
        for seed in SEEDS {
            let (mut guest, _, sched) = rooted(seed);
            let value_bytes = guest.bytes("bpf_struct_ops_sched_ext_ops");
            let map = guest.add_with("bpf_struct_ops_map", value_bytes);
            let held = guest.at(map, "kvalue") + guest.offset("bpf_struct_ops_sched_ext_ops", "data.priv");
            guest.write_u64(held, sched.at);
            let value = guest.type_id("bpf_struct_ops_sched_ext_ops").0;
            let maps = MapsRead { struct_ops: vec![(KernelVirt(map.at), value)], ..MapsRead::default() };
            expect_exit(&read(&guest, &maps).unwrap());
            // The value of another subsystem's map is not taken for a scheduler.
            let maps = MapsRead { struct_ops: vec![(KernelVirt(map.at), 1)], ..MapsRead::default() };
            assert_eq!(read(&guest, &maps).unwrap().ops_name, None);
        }
    }

    #[test]
    fn kernels_with_one_scheduler_in_variables_are_read() {
        for seed in SEEDS {
            let mut guest = Guest::lacking(seed, &["scx_sched", "scx_enable_state"]);
            guest.number("scx_ops_enable_state_var", "u32", 2u32);
            clock(&mut guest);
            let info = exit_info(&mut guest);
            guest.number("scx_exit_info", "ptr", info);
            guest.number("scx_exit_kind", "u32", 1u32);
            guest.number("scx_watchdog_timeout", "u64", 500u32);
            let ops = guest.variable("scx_ops", "sched_ext_ops");
            guest.text(ops, "name", "demo");
            guest.number("scx_enable_seq", "u64", 3u32);
            let state = read(&guest, &MapsRead::default()).unwrap();
            expect_exit(&state);
            assert_eq!((state.state.as_str(), state.enable_seq), ("disabling", Some(3)));
        }
    }

    #[test]
    fn a_text_that_cannot_be_read_is_a_fault() {
        for seed in SEEDS {
            let (mut guest, root, sched) = rooted(seed);
            guest.set(root, "", sched);
            let info = guest.add("scx_exit_info");
            guest.set(info, "reason", 0xffff_c900_dead_0000u64);
            guest.set(sched, "exit_info", info);
            let profile = guest.profile();
            let mut faults = Vec::new();
            let view = KernelView::new(&profile, &guest.ram);
            let state = read_scx(&view, &MapsRead::default(), &mut faults).unwrap().unwrap();
            assert_eq!(state.exit_reason, None);
            assert_eq!(faults.len(), 1);
            assert!(
                faults[0]
                    .starts_with("sched_ext's exit reason: kernel address 0xffffc900dead0000 is not mapped")
            );
        }
    }
}
