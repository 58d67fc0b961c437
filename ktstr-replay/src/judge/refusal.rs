//! Why a scheduler was not enabled, in the words of the kernel and of libbpf.
//!
//! The kernel takes a scheduler's programs one by one, and then its `ops`. What it has against a program stands in the verifier's log, which
//! libbpf prints; what it has against the `ops`, or what `ops.init` returned, stands in the kernel's own log. A loader may try more
//! than once: what was said last is the reason.

use std::ops::RangeInclusive;

use crate::kernel::scx::said::{KERN_ERR, SchedulerLine, said, words};
use crate::run::Run;
use crate::text::{clean, escaped};
use crate::trace::record::{EventBody, OutputSource};
use crate::units::GuestNs;

/// Lines of sched_ext that are looked at, the last ones.
const LOG_LINES: usize = 256;
/// Bytes of such a line at most: the kernel has none that is longer (`PRINTK_MESSAGE_MAX` of its `kernel/printk/internal.h` is less).
const LOG_LINE: usize = 8192;
/// Lines of sched_ext below the end of a scheduler in which its message is looked for: another CPU may have written meanwhile.
const MESSAGE_WITHIN: usize = 4;
/// How the kernel calls an end that the loader itself has asked for (`scx_exit_reason`).
const BY_LOADER: &str = "unregistered from user space";
/// What libbpf prints before each message of its own.
const LIBBPF: &str = "libbpf: ";
/// What is in those of its messages on `ops` that are no failure, which a loader shows that was asked for its debug output
/// (`bpf_map__init_kern_struct_ops` and `init_struct_ops_maps` of `tools/lib/bpf/libbpf.c`).
const DEBUG: [&str; 4] = [": type_id:", " is set to prog ", " bytes from data(+", " found at offset "];
/// How a verifier's log begins and ends in libbpf's output (`bpf_object_load_prog` of `tools/lib/bpf/libbpf.c`).
const LOG_END: &str = "-- END PROG LOAD LOG --";
/// What the kernel's diagnosis of a rejected program begins with, from 7.3 on (`bpf_diag_header` of `kernel/bpf/diagnostics.c`).
const DIAGNOSIS: &str = "Verification failed: ";
/// What follows the verifier's words on a program (`print_verification_stats` of `kernel/bpf/verifier.c`).
const STATISTICS: [&str; 4] = ["processed ", "verification time ", "stack depth ", "subprog "];

/// Something that was said against a scheduler.
struct Refusal {
    at: GuestNs,
    words: String,
}

/// What the kernel, or libbpf for it, had against the scheduler that was to be enabled in this time; `None`: nothing was said.
///
/// `names` are those by which the scheduler is known; without one, whatever ended last is meant. The kernel knows a scheduler by the
/// name in its `ops`, which may be another one: so one that is the only one to have ended is meant, too, and told by that name. One that
/// was enabled before that time is another one, whatever its name.
pub(super) fn refusal(run: &Run<'_>, time: &RangeInclusive<GuestNs>, names: &[&str]) -> Option<String> {
    let kernels = by_kernel(run, time, names);
    let called = kernels.as_ref().and_then(|(name, _)| *name);
    // What was said before an attempt that went well is not the reason. Without names the one that went well may be another one, which has
    // come back.
    let is_its = |name: &str| !names.is_empty() && (is_one_of(name, names) || called == Some(name));
    let went_well = run.kmsg().rev().find_map(|(_, at, line)| {
        let enabled = SchedulerLine::of_root(line).filter(|line| line.end.is_none());
        enabled.filter(|line| time.contains(&at) && is_its(line.name)).map(|_| at)
    });
    let both = [by_libbpf(&written(run, time)), kernels.map(|(_, refusal)| refusal)];
    let said = both.into_iter().flatten().filter(|refusal| went_well.is_none_or(|at| refusal.at >= at));
    said.max_by_key(|refusal| refusal.at).map(|refusal| refusal.words)
}

/// What the kernel's number of a failure says that neither the kernel nor libbpf puts into words, by what the loader wrote last.
pub(super) fn unsaid(run: &Run<'_>, last_written: &str) -> Option<String> {
    if last_written.contains("Argument list too long") {
        let note = "note: the kernel answers E2BIG, `Argument list too long`, to `ops` with a `timeout_ms` above 30000 (SCX_WATCHDOG_MAX_TIMEOUT), \
                    or with another field above its maximum (bpf_scx_init_member of the kernel's kernel/sched/ext), and to a program that is \
                    too complex for its verifier";
        return Some(note.to_owned());
    }
    let busy = last_written.contains("Device or resource busy");
    enabled_after(run.kmsg().map(|(_, _, line)| line)).filter(|_| busy).map(|name| {
        format!("note: the kernel takes one scheduler at a time, and `{}` was enabled", escaped(name))
    })
}

/// The scheduler that is enabled after these lines of the kernel's log.
fn enabled_after<'l>(lines: impl Iterator<Item = &'l str>) -> Option<&'l str> {
    lines.filter_map(SchedulerLine::of_root).fold(None, |now, line| match line.end {
        None => Some(line.name),
        Some(_) => now.filter(|name| *name != line.name),
    })
}

/// What the kernel said last, and against which scheduler, if it is one.
fn by_kernel<'r>(
    run: &'r Run<'_>,
    time: &RangeInclusive<GuestNs>,
    names: &[&str],
) -> Option<(Option<&'r str>, Refusal)> {
    let of_sched_ext = |(_, at, line): &(u8, GuestNs, &str)| {
        time.contains(at) && line.len() <= LOG_LINE && words(line).is_some()
    };
    let mut log: Vec<(u8, GuestNs, &str)> = run.kmsg().filter(of_sched_ext).collect();
    let earlier = run.kmsg().filter(|(_, at, _)| at < time.start()).map(|(_, _, line)| line);
    if let Some(bystander) = enabled_after(earlier) {
        let is_its_end = |line| ended(line).is_some_and(|(name, _)| name == bystander);
        if let Some(position) = log.iter().position(|(_, _, line)| is_its_end(line)) {
            log.remove(position);
        }
    }
    log.drain(..log.len().saturating_sub(LOG_LINES));
    let ends: Vec<(Option<&str>, Refusal)> =
        (0..log.len()).filter_map(|position| said_against(&log, position, names)).collect();
    let mut ended: Vec<&str> = ends.iter().filter_map(|(name, _)| *name).collect();
    ended.sort_unstable();
    ended.dedup();
    let any_is_meant = names.is_empty() || ended.len() == 1;
    let is_meant = |name: Option<&str>| name.is_none_or(|name| any_is_meant || is_one_of(name, names));
    ends.into_iter().rev().find(|(name, _)| is_meant(*name))
}

/// Name and reason of a scheduler that is below no other and ended.
fn ended(line: &str) -> Option<(&str, &str)> {
    SchedulerLine::of_root(line).and_then(|line| Some((line.name, line.end?)))
}

/// What a line of the kernel's log says against a scheduler, and which one.
fn said_against<'l>(
    log: &[(u8, GuestNs, &'l str)],
    position: usize,
    names: &[&str],
) -> Option<(Option<&'l str>, Refusal)> {
    let &(level, at, line) = log.get(position)?;
    let (before, after) = (log.get(..position)?, log.get(position + 1..)?);
    let Some((name, reason)) = ended(line) else {
        // What is not of one scheduler: the kernel takes none, or not this kind. A message has its scheduler's name before it.
        let is_message = said(line).is_some_and(|(name, _)| !name.contains(' '));
        let is_of_one = is_message || SchedulerLine::read(line).is_some_and(|line| line.end.is_some());
        let words = words(line).filter(|_| level <= KERN_ERR && !is_of_one)?;
        return Some((None, Refusal { at, words: format!("the kernel says: {}", quoted(words)) }));
    };
    if reason == BY_LOADER {
        return None;
    }
    // Below the next end is the message of that one.
    let below = after.iter().take_while(|(_, _, line)| ended(line).is_none()).take(MESSAGE_WITHIN);
    let message = below.filter_map(|(_, _, line)| said(line)).find(|(whose, _)| *whose == name);
    let of_it = |line| SchedulerLine::of_root(line).filter(|line| line.name == name);
    let was_enabled =
        before.iter().rev().find_map(|(_, _, line)| of_it(line)).is_some_and(|line| line.end.is_none());
    let who = if is_one_of(name, names) { "it".to_owned() } else { format!("`{}`", escaped(name)) };
    let mut words = match was_enabled {
        true => format!("the kernel enabled {who} and then ended it: "),
        false => format!("the kernel ended {who}: "),
    };
    words.push_str(&quoted(reason));
    if let Some((_, message)) = message {
        words.push_str(&format!(": {}", quoted(message)));
    }
    Some((Some(name), Refusal { at, words }))
}

/// Whether the kernel's name of a scheduler is one of those, which may lack `scx_` and the version that follows:
/// `lavd_1.1.4_x86_64_unknown_linux_gnu` is `scx_lavd`, and `lavd_other` is not.
fn is_one_of(name: &str, names: &[&str]) -> bool {
    let bare = |name: &str| name.strip_prefix("scx_").unwrap_or(name).to_owned();
    let is_version = |rest: &str| {
        rest.strip_prefix(['_', '.']).is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit()))
    };
    let name = bare(name);
    names.iter().map(|known| bare(known)).filter(|known| !known.is_empty()).any(|known| {
        name.strip_prefix(known.as_str()).is_some_and(|rest| rest.is_empty() || is_version(rest))
    })
}

fn quoted(text: &str) -> String {
    clean(text.trim())
}

/// The lines that schedulers wrote in a time, each with that at which its beginning came. What comes in pieces is put together, of each
/// stream its own.
fn written(run: &Run<'_>, time: &RangeInclusive<GuestNs>) -> Vec<(GuestNs, String)> {
    let mut lines: Vec<(GuestNs, String)> = Vec::new();
    // The line that goes on, of standard output and of standard error.
    let mut going_on: [Option<usize>; 2] = [None; 2];
    for event in run.events.iter().filter(|event| time.contains(&event.guest_ns)) {
        let EventBody::Output { source: OutputSource::Scheduler, stderr, bytes } = &event.body else {
            continue;
        };
        let [out, err] = &mut going_on;
        let open = if *stderr { err } else { out };
        for piece in String::from_utf8_lossy(bytes).split_inclusive('\n') {
            let position = *open.get_or_insert_with(|| {
                lines.push((event.guest_ns, String::new()));
                lines.len() - 1
            });
            if let Some((_, line)) = lines.get_mut(position) {
                line.push_str(piece);
            }
            if piece.ends_with('\n') {
                *open = None;
            }
        }
    }
    lines
}

/// What libbpf said last that keeps a scheduler from being loaded.
fn by_libbpf(lines: &[(GuestNs, String)]) -> Option<Refusal> {
    let said = |line: &str| line.split_once(LIBBPF).map(|(_, said)| said.trim().to_owned());
    let refused = lines.iter().enumerate().rev().find_map(|(position, (at, line))| {
        let words = said(line).filter(|words| is_fatal(words))?;
        Some((position, *at, words))
    });
    let (position, at, words) = refused?;
    let mut words = format!("{LIBBPF}{}", quoted(&words));
    let rest = lines.get(position + 1..).unwrap_or_default().iter().map(|(_, line)| line.trim());
    if let Some(verifier) = of_verifier(rest) {
        words.push_str(&format!(": {}", quoted(verifier)));
    }
    Some(Refusal { at, words })
}

/// Whether a message of libbpf is the first one of a failure. Those that follow say that what needs it failed as well. Source: `tools/lib/bpf/libbpf.c`.
fn is_fatal(words: &str) -> bool {
    let lacks = words.starts_with("extern (")
        && (words.contains("not found in kernel") || words.contains("incompatible with"));
    let unresolved = words.starts_with("extern '") && words.ends_with("(strong): not resolved");
    let ops = words.starts_with("struct_ops init") && !DEBUG.iter().any(|part| words.contains(part));
    let map = words.starts_with("map '") && words.contains("': failed to create");
    let btf = words.contains("failed to find valid kernel BTF") || words.contains("kernel BTF is missing");
    lacks || unresolved || ops || map || btf || words.contains("': BPF program load failed: ")
}

/// The verifier's words on the program whose log begins with the next line: its diagnosis, or its last line before the statistics.
fn of_verifier<'l>(lines: impl Iterator<Item = &'l str>) -> Option<&'l str> {
    let mut lines = lines.peekable();
    lines.next_if(|line| line.contains("-- BEGIN PROG LOAD LOG --"))?;
    let log: Vec<&str> = lines.take_while(|line| !line.contains(LOG_END)).collect();
    let is_said = |line: &&&str| !line.is_empty() && !STATISTICS.iter().any(|begin| line.starts_with(begin));
    let diagnosis = log.iter().find(|line| line.starts_with(DIAGNOSIS));
    diagnosis.or_else(|| log.iter().rev().find(is_said)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::CheckSource;
    use crate::run::Run;
    use crate::testing::TraceBuilder;
    use crate::trace::record::{GuestEnd, Stage};
    use crate::verdict::{Finding, Outcome};

    /// Of Linux 7.3, with the loader that was started at -200 ms.
    const REJECTED: &str = "libbpf: prog 'demo_init': BPF program load failed: Permission denied\n\
        libbpf: prog 'demo_init': -- BEGIN PROG LOAD LOG --\n\
        0: R1=ctx() R10=fp0\n\
        Verification failed: Invalid memory access: R0 may be NULL\n\nReason:\n  R0 is a map value or NULL\n\
        processed 9 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n\
        -- END PROG LOAD LOG --\n\
        libbpf: prog 'demo_init': failed to load: -EACCES\n\
        libbpf: failed to load object 'scx_demo'\n\
        libbpf: failed to load BPF skeleton 'scx_demo': -EACCES\n";

    fn started() -> TraceBuilder {
        TraceBuilder::new().stage(-200, Stage::SchedulerStarted, "")
    }

    /// The finding of a run whose scheduler has left without having been enabled.
    fn found(run: TraceBuilder) -> Finding {
        let run = run
            .stage(-20, Stage::SchedulerExited, "exit code 1; sched_ext is disabled")
            .stage(
                -10,
                Stage::InitFailed,
                "the scheduler ended before it was enabled: exit code 1; its output says why",
            )
            .event(0, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
        let verdict = Run::load(&run.trace()).judge(None, CheckSource::Recorded);
        let finding =
            verdict.findings.into_iter().find(|finding| finding.what == "scheduler").expect("one of it");
        assert_eq!(finding.outcome, Outcome::Fail);
        finding
    }

    fn reason(run: TraceBuilder) -> String {
        let summary = found(run).summary;
        let reason = summary.strip_prefix("demo did not load: ").unwrap_or_else(|| panic!("{summary}"));
        let (reason, ended) = reason.rsplit_once("exit code 1; sched_ext is disabled").expect("how it ended");
        assert_eq!(ended, "");
        reason.trim_end_matches("; ").to_owned()
    }

    /// The kernel's lines of a scheduler that it ends with an error.
    fn ended(run: TraceBuilder, at_ms: i64, name: &str, reason: &str, message: &str) -> TraceBuilder {
        run.kmsg(at_ms, 3, &format!("sched_ext: BPF scheduler \"{name}\" disabled ({reason})"))
            .kmsg(at_ms, 3, &format!("sched_ext: {name}: {message}"))
            .kmsg(at_ms, 3, "   scx_root_enable_workfn+0x7e1/0xd50")
            .kmsg(at_ms, 3, "   kthread_worker_fn+0xa3/0x2b0")
    }

    #[test]
    fn what_the_kernel_says_of_the_ops_is_the_reason() {
        let of = |reason, message| super::tests::reason(ended(started(), -100, "demo", reason, message));
        for message in [
            "ops.init() failed (-22)",
            "ops.init_task() failed (-12) for kworker/u8:2[41]",
            "ops.cgroup_init() failed (-95)",
            "SCX_OPS_ENQ_LAST requires ops.enqueue() to be implemented",
            "scx_root_enable() failed (-12)",
        ] {
            assert_eq!(
                of("runtime error", message),
                format!("the kernel ended it: runtime error: {message}")
            );
        }
        assert_eq!(of("scx_bpf_error", "no: such CPU"), "the kernel ended it: scx_bpf_error: no: such CPU");
        // The text is the scheduler's own, and goes to a terminal.
        assert!(!of("scx_bpf_error", "\u{1b}[2Jgone").contains('\u{1b}'));
        assert!(of("scx_bpf_error", &"x".repeat(5000)).len() < 400);
        // An end in order has no message.
        let hotplug = "sched_ext: BPF scheduler \"demo\" disabled (unregistered from the main kernel)";
        assert_eq!(
            super::tests::reason(started().kmsg(-100, 6, hotplug)),
            "the kernel ended it: unregistered from the main kernel"
        );
        let isolated = "sched_ext: Not compatible with \"isolcpus=\" domain isolation";
        assert_eq!(
            super::tests::reason(started().kmsg(-100, 3, isolated)),
            "the kernel says: Not compatible with \"isolcpus=\" domain isolation"
        );
    }

    #[test]
    fn one_that_was_enabled_for_a_moment_is_told_to_have_been() {
        let enabled = started().kmsg(-150, 6, "sched_ext: BPF scheduler \"demo\" enabled");
        assert_eq!(
            reason(ended(enabled, -100, "demo", "runtime error", "invalid DSQ ID 0x7")),
            "the kernel enabled it and then ended it: runtime error: invalid DSQ ID 0x7"
        );
    }

    #[test]
    fn what_was_said_before_an_attempt_that_went_well_is_not_the_reason() {
        let failed = ended(started(), -150, "demo", "runtime error", "ops.init() failed (-22)");
        let failed = failed.output(-150, OutputSource::Scheduler, REJECTED);
        let then_enabled = failed.kmsg(-140, 6, "sched_ext: BPF scheduler \"demo\" enabled");
        let left = then_enabled.kmsg(
            -130,
            6,
            "sched_ext: BPF scheduler \"demo\" disabled (unregistered from user space)",
        );
        assert_eq!(reason(left), "it last wrote `libbpf: failed to load BPF skeleton 'scx_demo': -EACCES`");
    }

    #[test]
    fn a_bystander_is_not_the_reason() {
        // One that ended before the scheduler was started.
        let before = ended(TraceBuilder::new(), -900, "demo", "runtime error", "ops.init() failed (-1)");
        assert_eq!(reason(before.stage(-200, Stage::SchedulerStarted, "")), "");
        // One that ended after it, of another name.
        let both = ended(started(), -150, "demo", "runtime error", "ops.init() failed (-22)");
        let both = ended(both, -100, "other", "runtime error", "ops.init() failed (-1)");
        assert_eq!(reason(both), "the kernel ended it: runtime error: ops.init() failed (-22)");
        // A scheduler below another one, and what a loader itself has taken away.
        let sub = started().kmsg(-100, 3, "sched_ext: BPF sub-scheduler \"demo\" disabled (runtime error)");
        assert_eq!(reason(sub), "");
        let probe = started().kmsg(
            -100,
            6,
            "sched_ext: BPF scheduler \"demo\" disabled (unregistered from user space)",
        );
        assert_eq!(reason(probe), "");
        // Two of which neither has its name.
        let two = ended(started(), -150, "one", "runtime error", "ops.init() failed (-1)");
        assert_eq!(reason(ended(two, -100, "two", "runtime error", "ops.init() failed (-2)")), "");
        // One that was enabled when it was started, of whatever name.
        for name in ["other", "demo"] {
            let enabled = format!("sched_ext: BPF scheduler \"{name}\" enabled");
            let stalled =
                TraceBuilder::new().kmsg(-900, 6, &enabled).stage(-200, Stage::SchedulerStarted, "");
            let stalled = ended(stalled, -150, name, "runnable task stall", "x[7] failed to run for 30.1s");
            assert_eq!(reason(stalled), "", "{name}");
        }
        // What is above the end of another one, and what is below it.
        let unsaid =
            started().kmsg(-150, 6, "sched_ext: BPF scheduler \"demo\" disabled (unregistered from BPF)");
        let unsaid = unsaid
            .kmsg(-140, 6, "sched_ext: BPF scheduler \"other\" disabled (unregistered from user space)")
            .kmsg(-130, 3, "sched_ext: demo: of an attempt whose end is not in the log");
        assert_eq!(reason(unsaid), "the kernel ended it: unregistered from BPF");
        // A message of another one is not its own.
        let mixed = started()
            .kmsg(-100, 3, "sched_ext: BPF scheduler \"demo\" disabled (runtime error)")
            .kmsg(-100, 3, "sched_ext: other: ops.init() failed (-1)");
        assert_eq!(reason(mixed), "the kernel ended it: runtime error");
    }

    #[test]
    fn the_kernels_name_may_be_another_than_the_tests() {
        let of = |name| reason(ended(started(), -100, name, "runtime error", "ops.init() failed (-1)"));
        assert_eq!(of("mine"), "the kernel ended `mine`: runtime error: ops.init() failed (-1)");
        assert_eq!(of("demo_1.1.4_x86"), "the kernel ended it: runtime error: ops.init() failed (-1)");
        assert_eq!(of("demolition"), "the kernel ended `demolition`: runtime error: ops.init() failed (-1)");
        assert!(is_one_of("lavd_1.1.4_x86_64", &["scx_lavd"]) && !is_one_of("lavd", &["", "scx_"]));
        assert!(is_one_of("lavd", &["scx_lavd"]) && !is_one_of("lavd_other", &["scx_lavd"]));
    }

    #[test]
    fn of_several_attempts_the_last_one_is_told() {
        let twice = ended(started(), -150, "demo", "scx_bpf_error", "first");
        let twice = ended(twice, -100, "demo", "runtime error", "ops.init() failed (-22)");
        assert_eq!(reason(twice), "the kernel ended it: runtime error: ops.init() failed (-22)");
        let then_rejected = ended(started(), -150, "demo", "scx_bpf_error", "first");
        let then_rejected = then_rejected.output(-100, OutputSource::Scheduler, REJECTED);
        assert!(reason(then_rejected).starts_with("libbpf: prog 'demo_init': "));
        let rejected_before = started().output(-150, OutputSource::Scheduler, REJECTED);
        assert_eq!(
            reason(ended(rejected_before, -100, "demo", "runtime error", "ops.init() failed (-22)")),
            "the kernel ended it: runtime error: ops.init() failed (-22)"
        );
    }

    #[test]
    fn what_libbpf_prints_is_the_reason_where_the_kernel_has_taken_no_ops() {
        let of = |text: &str| reason(started().output(-100, OutputSource::Scheduler, text));
        let failed = "libbpf: prog 'demo_init': BPF program load failed: Permission denied";
        let diagnosis = "Verification failed: Invalid memory access: R0 may be NULL";
        assert_eq!(of(REJECTED), format!("{failed}: {diagnosis}"));
        // A kernel that does not explain what it rejects.
        let older = REJECTED.replace(
            &format!("{diagnosis}\n\nReason:\n  R0 is a map value or NULL\n"),
            "R0 invalid mem access 'x'\n",
        );
        assert_eq!(of(&older), format!("{failed}: R0 invalid mem access 'x'"));
        // Lines come in pieces, and as a logger has them.
        for (cut, _) in REJECTED.char_indices().filter(|(at, c)| *at == 90 || *c == ' ') {
            let (one, other) = REJECTED.split_at(cut + 1);
            let pieces = started().output(-100, OutputSource::Scheduler, one).output(
                -90,
                OutputSource::Scheduler,
                other,
            );
            assert_eq!(reason(pieces), format!("{failed}: {diagnosis}"), "{cut}");
        }
        // Another stream's line is not in the midst of it.
        let (one, other) = REJECTED.split_at(60);
        let between = EventBody::Output {
            source: OutputSource::Scheduler,
            stderr: false,
            bytes: "trying\nagain".into(),
        };
        let streams = started().output(-100, OutputSource::Scheduler, one).event(-95, between).output(
            -90,
            OutputSource::Scheduler,
            other,
        );
        let streams = reason(streams);
        assert!(streams.starts_with(failed), "{streams}");
        let missing = "extern (func ksym) 'scx_bpf_nope': not found in kernel or module BTFs";
        let text = format!(
            "libbpf: struct_ops demo_ops: member priv not found in kernel, skipping it as it's set to zero\n\
             12:00:00 [WARN] libbpf: {missing}\nlibbpf: failed to load object 'demo'\nError: Invalid argument\n"
        );
        assert_eq!(of(&text), format!("libbpf: {missing}"));
        let unresolved = "libbpf: extern 'CONFIG_NOPE' (strong): not resolved";
        assert_eq!(of(&format!("{unresolved}\nlibbpf: failed to load object 'demo'\n")), unresolved);
        // What is no failure is not taken for one.
        for said in [
            "struct_ops demo_ops: member priv not found in kernel, skipping it as it's set to zero",
            "struct_ops init: struct sched_ext_ops(type_id=7) demo_ops found at offset 0",
            "struct_ops init_kern demo_ops: type_id:7 kern_type_id:8 kern_vtype_id:9",
            "struct_ops init_kern demo_ops: func ptr init is set to prog demo_init from data(+0) to kern_data(+8)",
            "struct_ops init_kern demo_ops: copy flags 8 bytes from data(+16) to kern_data(+24)",
        ] {
            assert_eq!(of(&format!("libbpf: {said}\nError: no\n")), "it last wrote `Error: no`", "{said}");
        }
    }

    #[test]
    fn a_bare_error_number_is_explained() {
        let of = |run: TraceBuilder, text: &str| found(run.output(-100, OutputSource::Scheduler, text)).lines;
        let notes = |lines: Vec<String>| {
            lines.into_iter().filter(|line| line.starts_with("note: the kernel ")).collect::<Vec<_>>()
        };
        let too_long = notes(of(started(), "Error: Argument list too long (os error 7)\n"));
        assert!(too_long.len() == 1 && too_long[0].contains("`timeout_ms` above 30000"), "{too_long:?}");
        let busy = "Error: Device or resource busy (os error 16)\n";
        let other = started().kmsg(-900, 6, "sched_ext: BPF scheduler \"other\" enabled");
        assert!(notes(of(other, busy))[0].contains("`other` was enabled"));
        let gone = started().kmsg(-900, 6, "sched_ext: BPF scheduler \"other\" enabled").kmsg(
            -800,
            6,
            "sched_ext: BPF scheduler \"other\" disabled (unregistered from user space)",
        );
        assert_eq!(notes(of(gone, busy)), Vec::<String>::new());
        // Where there is a reason, the number is none.
        let ended = ended(started(), -150, "demo", "runtime error", "ops.init() failed (-7)");
        assert_eq!(notes(of(ended, "Argument list too long\n")), Vec::<String>::new());
    }

    #[test]
    fn one_that_a_test_attaches_and_that_does_not_load_is_told_with_its_reason() {
        let error =
            "attach_scheduler: the scheduler ended before it was enabled: exit code 1; its output says why";
        let begun = TraceBuilder::begun().periodic(&[1]).op(1000, "detach_scheduler", "demo");
        let run = ended(begun, 1200, "other", "runtime error", "ops.init() failed (-22)");
        let lines = |run: TraceBuilder, error: &str| {
            let run = run
                .event(1500, EventBody::Body { error: Some(error.to_owned()), failures: Vec::new() })
                .stage(1500, Stage::BodyEnded, "");
            let verdict = Run::load(&run.trace()).judge(None, CheckSource::Recorded);
            verdict.findings.into_iter().find(|finding| finding.what == "body").expect("one of it").lines
        };
        let told = "the scheduler that was to be attached: the kernel ended `other`: runtime error: ops.init() failed (-22)";
        // Its own scheduler is attached again before the body ends, and what becomes of that one is not the reason.
        let run = run.kmsg(1250, 6, "sched_ext: BPF scheduler \"demo\" enabled").op(
            1300,
            "attach_scheduler",
            "demo",
        );
        let run = ended(run, 1400, "demo", "runnable task stall", "x[7] failed to run for 30.1s");
        assert_eq!(lines(run, error), [told]);
        let run = ended(
            TraceBuilder::begun().op(1000, "detach_scheduler", "demo"),
            1200,
            "x",
            "runtime error",
            "y",
        );
        assert_eq!(lines(run, "it is of something else"), Vec::<String>::new());
    }
}
