//! Paths through a kernel, whatever its layouts.

use proptest::prelude::*;

use super::*;
use crate::kernel::KernelView;
use crate::path::{FieldPath, KernelPath, Projection};
use crate::testing::btf::Builder;
use crate::testing::memory::Chaos;
use crate::testing::{Guest, Object, PER_CPU_BYTES, SEEDS};
use crate::units::KernelVirt;
use crate::value::{Scalar, Value};

/// Two CPUs with runqueues; CPU 1 runs task 105 `stress-ng`, which is the only one beside `init_task`. And the runqueues.
fn guest(seed: u64) -> (Guest, Object) {
    let mut guest = Guest::new(seed);
    guest.cpus(2);
    guest.symbol("__per_cpu_start", 0);
    let runqueues = guest.per_cpu("runqueues", "rq");
    guest.symbol("__per_cpu_end", PER_CPU_BYTES);
    let init = guest.variable("init_task", "task_struct");
    let busy = guest.add("task_struct");
    for (task, pid, comm) in [(init, 0u32, "swapper/0"), (busy, 105, "stress-ng")] {
        guest.text(task, "comm", comm);
        guest.set(task, "pid", pid);
        guest.set_signed(task, "prio", -5);
        guest.set(task, "bits", 0b1101u32);
    }
    guest.ring(&[guest.at(init, "tasks"), guest.at(busy, "tasks")]);
    for cpu in 0..2u32 {
        let rq = guest.on_cpu(runqueues, cpu.into());
        guest.set(rq, "scx.depth", 7 + cpu);
        guest.set(rq, "curr", [0, busy.at][cpu as usize]);
        guest.set(rq, "idle", init);
    }
    let sched = guest.add("scx_sched");
    guest.set(sched, "timeout", 30_000u32);
    guest.number("scx_root", "ptr", sched);
    guest.number("scx_watchdog_timestamp", "u64", 4_294_900_000u64);
    (guest, runqueues)
}

pub(super) fn path(text: &str) -> KernelPath {
    match text.parse() {
        Ok(Projection::Kernel(path)) => path,
        other => panic!("{text}: {other:?}"),
    }
}

fn ask(guest: &Guest, text: &str) -> Result<Scalar, String> {
    let profile = guest.profile();
    let read = number(&KernelView::new(&profile, &guest.ram), &path(text));
    read.map(|reading| reading.scalar).map_err(|error| error.to_string())
}

#[test]
fn the_runqueue_of_a_cpu_that_is_offline_is_not_read() {
    let (mut guest, _) = guest(0);
    const PATHS: [&str; 4] = [
        "rq[1].scx.depth",
        "kernel.runqueues.cpu(1).scx.depth",
        "kernel.(struct rq)runqueues.cpu(1).scx.depth",
        "kernel.runqueues.cpu(1).curr->pid",
    ];
    for path in PATHS {
        let value = if path.ends_with("pid") { 105u64 } else { 8 };
        assert_eq!(ask(&guest, path), Ok(Scalar::from(value)), "{path}");
    }
    guest.number("__cpu_online_mask", "u64", 1u64);
    for path in PATHS {
        assert_eq!(ask(&guest, path), Err("CPU 1 is offline".to_owned()), "{path}");
    }
    assert_eq!(ask(&guest, "kernel.runqueues.cpu(0).scx.depth"), Ok(Scalar::from(7u64)));
}

/// What the rest of a path leads to from a value of a program.
fn from(view: &KernelView<'_>, value: &Value<'_>, root: &str, rest: &str) -> Result<Scalar, String> {
    let rest: FieldPath = rest.parse().unwrap();
    let start = Start { root: &root, steps: rest.steps() };
    follow(view, value, start).map(|reading| reading.scalar).map_err(|error| error.to_string())
}

#[test]
fn numbers_are_found_by_symbol_cpu_and_task() {
    for seed in SEEDS {
        let (guest, _) = guest(seed);
        for (text, value) in [
            ("kernel.scx_watchdog_timestamp", 4_294_900_000),
            ("kernel.(u32)scx_watchdog_timestamp", 4_294_900_000),
            ("kernel.scx_root->timeout", 30_000),
            ("kernel.(struct scx_sched *)scx_root->timeout", 30_000),
            ("kernel.runqueues.cpu(1).scx.depth", 8),
            ("rq[0].scx.depth", 7),
            ("rq[1].curr->pid", 105),
            ("rq[1].curr->prio", -5),
            ("rq[1].curr->bits", 5),
            ("task[105].prio", -5),
            ("task[comm=stress-ng].pid", 105),
            ("task[comm=\"swapper/0\"].pid", 0),
            ("task[105].comm[1]", i128::from(b't')),
        ] {
            assert_eq!(ask(&guest, text), Ok(Scalar::Int(value)), "{text}");
        }
        assert!(matches!(ask(&guest, "kernel.scx_root"), Ok(Scalar::Pointer(at)) if at != 0));
    }
}

#[test]
fn what_is_not_there_says_what_is() {
    for seed in SEEDS {
        let (guest, _) = guest(seed);
        for (text, part) in [
            ("kernel.scx_watchdog_timestmp", "did you mean `scx_watchdog_timestamp`?"),
            ("kernel.__cpu_online_mask", "as in `kernel.(u64)__cpu_online_mask`"),
            ("kernel.(struct scx_schde *)scx_root->x", "did you mean `scx_sched`?"),
            ("kernel.runqueues.scx.depth", "`runqueues` has a copy for each CPU: write `runqueues.cpu(0)`"),
            ("kernel.scx_root.cpu(0)", "`scx_root` is not per CPU, so it has no `.cpu(0)`"),
            (
                "kernel.scx_root.timeout",
                "`kernel.scx_root` is a pointer: write `->` for a field of what it points at",
            ),
            ("rq[7].scx.depth", "there is no CPU 7; there are 0, 1"),
            ("rq[0].scx.dept", "did you mean `depth`?"),
            ("rq[0].scx", "a `struct scx_rq` is not a number"),
            ("rq[0].curr->pid", "`rq[0].curr` is a null pointer"),
            ("rq[0].scx->depth", "`rq[0].scx` is a `struct scx_rq`, not a pointer"),
            (
                "rq[1].curr->pidd",
                "`rq[1].curr->` is a `struct task_struct`, which has no `pidd`; did you mean `pid`?",
            ),
            ("task[106].prio", "there is no task 106; did you mean `105`?"),
            ("task[comm=stress].prio", "there is no task called `stress`; did you mean `stress-ng`?"),
        ] {
            let error = ask(&guest, text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

#[test]
fn tasks_of_one_name_are_told_apart_by_pid() {
    for seed in SEEDS {
        let (mut guest, _) = guest(seed);
        let comm = guest.offset("task_struct", "comm");
        let init = guest.profile().symbol("init_task").unwrap().0;
        guest.write(init + comm, b"stress-ng\0");
        let error = ask(&guest, "task[comm=stress-ng].pid").unwrap_err();
        assert_eq!(error, "2 tasks are called `stress-ng`: ask by pid, 0, 105");
    }
}

#[test]
fn a_schedulers_pointer_is_followed_by_the_kernels_own_types() {
    for seed in SEEDS {
        let (mut guest, runqueues) = guest(seed);
        // The program knows a task by a form of its own, with another layout: the kernel's counts.
        let mut program = Builder::new();
        let u64 = program.unsigned("u64", 8);
        let flavour = program.structure("task_struct___mine", 8, &[("pid", u64, 0, 0)]);
        let to_task = program.pointer(flavour);
        let own = program.structure("my_ctx", 16, &[("vtime", u64, 64, 0)]);
        let to_own = program.pointer(own);
        let types = program.types();
        let ctx = guest.alloc(16);
        guest.write_u64(ctx + 8, 99);
        let profile = guest.profile();
        let view = KernelView::new(&profile, &guest.ram);
        let task = view.u64(KernelVirt(guest.at(guest.on_cpu(runqueues, 1), "curr"))).unwrap().to_le_bytes();
        let task = Value::new(&types, to_task, &task).unwrap();
        assert_eq!(from(&view, &task, "p", "->pid"), Ok(Scalar::Int(105)));
        let ctx = ctx.to_le_bytes();
        let ctx = Value::new(&types, to_own, &ctx).unwrap();
        assert_eq!(from(&view, &ctx, "ctx", "->vtime"), Ok(Scalar::Int(99)));
        let error = from(&view, &ctx, "ctx", "->vtim").unwrap_err();
        assert!(error.contains("did you mean `vtime`?"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn hostile_memory_ends(layout in SEEDS, seed: u64) {
        let (guest, _) = guest(layout);
        let profile = guest.profile();
        for text in ["rq[1].curr->pid", "task[105].prio", "kernel.scx_root->timeout"] {
            let _ = number(&KernelView::new(&profile, &Chaos(seed)), &path(text));
        }
    }

    #[test]
    fn words_that_a_guest_overwrote_are_no_harm(layout in SEEDS, at in 0u64..0x1000, word: u64) {
        let (mut guest, _) = guest(layout);
        guest.ram.write_u64(0x1_0000 + at / 8 * 8, word);
        for text in ["rq[1].curr->pid", "task[comm=stress-ng].prio", "kernel.scx_root->timeout"] {
            let _ = ask(&guest, text);
        }
    }
}

#[test]
fn an_address_without_a_type_is_named_by_what_is_there() {
    for seed in SEEDS {
        let (mut guest, runqueues) = guest(seed);
        guest.variable("map_idr", "idr");
        let profile = guest.profile();
        let view = KernelView::new(&profile, &guest.ram);
        let task = view.u64(KernelVirt(guest.at(guest.on_cpu(runqueues, 1), "curr"))).unwrap();
        let landmarks = Landmarks::of(&view).unwrap();
        assert_eq!(landmarks.at(task), Some(Landmark::Task { pid: 105, comm: "stress-ng".into() }));
        assert_eq!(landmarks.at(task + 8), None);
        assert_eq!(landmarks.at(0x1000_0000_1000), None, "there is no arena");
    }
}
