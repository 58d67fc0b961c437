//! Paths through a kernel whose structs are laid out unlike any real one's.

use proptest::prelude::*;

use super::*;
use crate::btf::testing::Builder;
use crate::kernel::KernelView;
use crate::kernel::testing::{Chaos, Guest};
use crate::path::{KernelPath, Projection};
use crate::value::{Scalar, Value};

const TASK_BYTES: u64 = 72;

/// Two CPUs with runqueues; CPU 1 runs task 105 `stress-ng`, which is the only one beside `init_task`.
fn guest() -> Guest {
    let mut guest = Guest::new();
    let b = &mut guest.types;
    let (u32, u64) = (b.unsigned("u32", 4), b.unsigned("u64", 8));
    let (char, s32) = (b.signed("char", 1), b.signed("s32", 4));
    let name = b.array(char, 16);
    let void = b.pointer(u64);
    let list = b.structure("list_head", 16, &[("next", void, 0, 0), ("prev", void, 64, 0)]);
    let task = b.structure(
        "task_struct",
        TASK_BYTES as u32,
        &[
            ("comm", name, 0, 0),
            ("tasks", list, 128, 0),
            ("thread_node", list, 256, 0),
            ("signal", void, 384, 0),
            ("pid", u32, 448, 0),
            ("prio", s32, 480, 0),
            ("bits", u32, 512, 3),
        ],
    );
    b.structure("signal_struct", 16, &[("thread_head", list, 0, 0)]);
    let to_task = b.pointer(task);
    let depth = b.structure("scx_rq", 8, &[("flags", u32, 0, 0), ("depth", u32, 32, 0)]);
    b.structure("rq", 40, &[("scx", depth, 0, 0), ("curr", to_task, 64, 0), ("idle", to_task, 128, 0)]);
    let sched = b.structure("scx_sched", 16, &[("timeout", u64, 64, 0)]);
    b.pointer(sched);
    guest.cpus(2);
    guest.symbol("__per_cpu_start", 0);
    guest.symbol("runqueues", 0x100);
    guest.symbol("__per_cpu_end", 0x800);
    let init = guest.variable("init_task", TASK_BYTES);
    let busy = guest.alloc(TASK_BYTES);
    for (task, pid, comm) in [(init, 0, "swapper/0"), (busy, 105, "stress-ng")] {
        guest.write(task, comm.as_bytes());
        guest.write_u32(task + 56, pid);
        guest.write_u32(task + 60, (-5i32).cast_unsigned());
        guest.write_u32(task + 64, 0b1101);
    }
    guest.write_u64(init + 16, busy + 16);
    guest.write_u64(busy + 16, init + 16);
    for cpu in 0..2 {
        let rq = Guest::on_cpu(0x100, cpu);
        guest.write_u32(rq + 4, 7 + cpu as u32);
        guest.write_u64(rq + 8, [0, busy][cpu as usize]);
        guest.write_u64(rq + 16, init);
    }
    let sched = guest.alloc(16);
    guest.write_u64(sched + 8, 30_000);
    let root = guest.variable("scx_root", 8);
    guest.write_u64(root, sched);
    let stamp = guest.variable("scx_watchdog_timestamp", 8);
    guest.write_u64(stamp, 4_294_900_000);
    guest
}

fn path(text: &str) -> KernelPath {
    match text.parse() {
        Ok(Projection::Kernel(path)) => path,
        other => panic!("{text}: {other:?}"),
    }
}

fn ask(guest: &Guest, text: &str) -> Result<Scalar, String> {
    let profile = guest.profile();
    number(&KernelView::new(&profile, &guest.ram), &path(text)).map_err(|error| error.to_string())
}

#[test]
fn numbers_are_found_by_symbol_cpu_and_task() {
    let guest = guest();
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

#[test]
fn what_is_not_there_says_what_is() {
    let guest = guest();
    for (text, part) in [
        ("kernel.scx_watchdog_timestmp", "did you mean `scx_watchdog_timestamp`?"),
        ("kernel.__cpu_online_mask", "as in `kernel.(u64)__cpu_online_mask`"),
        ("kernel.(struct scx_schde *)scx_root->x", "did you mean `scx_sched`?"),
        ("kernel.runqueues.scx.depth", "`runqueues` has a copy for each CPU: write `runqueues.cpu(0)`"),
        ("kernel.scx_root.cpu(0)", "`scx_root` is not per CPU, so it has no `.cpu(0)`"),
        ("kernel.scx_root.timeout", "`kernel.scx_root` is a pointer: what it points at follows by `->`"),
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

#[test]
fn tasks_of_one_name_are_told_apart_by_pid() {
    let mut guest = guest();
    let profile = guest.profile();
    let init = profile.symbol("init_task").unwrap().0;
    guest.write(init, b"stress-ng\0");
    let error = ask(&guest, "task[comm=stress-ng].pid").unwrap_err();
    assert_eq!(error, "2 tasks are called `stress-ng`: ask by pid, 0, 105");
}

#[test]
fn a_schedulers_pointer_is_followed_by_the_kernels_own_types() {
    let mut guest = guest();
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
    let task = view.u64(crate::units::KernelVirt(Guest::on_cpu(0x100, 1) + 8)).unwrap().to_le_bytes();
    let task = Value::new(&types, to_task, &task).unwrap();
    assert_eq!(follow(&view, &task, &"p->pid".parse().unwrap()), Ok(Scalar::Int(105)));
    let ctx = ctx.to_le_bytes();
    let ctx = Value::new(&types, to_own, &ctx).unwrap();
    assert_eq!(follow(&view, &ctx, &"ctx->vtime".parse().unwrap()), Ok(Scalar::Int(99)));
    let error = follow(&view, &ctx, &"ctx->vtim".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("did you mean `vtime`?"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn hostile_memory_ends(seed: u64) {
        let guest = guest();
        let profile = guest.profile();
        for text in ["rq[1].curr->pid", "task[105].prio", "kernel.scx_root->timeout"] {
            let _ = number(&KernelView::new(&profile, &Chaos(seed)), &path(text));
        }
    }

    #[test]
    fn words_that_a_guest_overwrote_are_no_harm(at in 0u64..0x1000, word: u64) {
        let mut guest = guest();
        guest.ram.write_u64(0x1_0000 + at / 8 * 8, word);
        for text in ["rq[1].curr->pid", "task[comm=stress-ng].prio", "kernel.scx_root->timeout"] {
            let _ = ask(&guest, text);
        }
    }
}
