//! A whole kernel, right and then wrong: every reader of a checkpoint ends on it.

use proptest::prelude::*;

use super::cgroup::read_cgroups;
use super::cputime::read_cpu_times;
use super::dsq::{Dsqs, read_dsqs};
use super::log::read_log;
use super::runqueue::read_runqueue_details;
use super::scx::read_schedulers;
use super::task::{Tasks, read_tasks};
use super::{KernelProfile, KernelView};
use crate::testing::{Guest, Overwrite, SEEDS, overwrite, toy_kernel};

/// Read everything there is; sizes of what was found.
fn read_all(guest: &Guest, profile: &KernelProfile) -> (Tasks, Dsqs, usize) {
    let view = KernelView::new(profile, &guest.ram);
    let tasks = read_tasks(&view).unwrap_or_default();
    let dsqs = read_dsqs(&view).unwrap_or_default();
    let mut rest = read_runqueue_details(&view).map_or(0, |all| all.runqueues.len());
    rest += read_schedulers(&view).map_or(0, |all| all.schedulers.len());
    rest += read_log(&view).map_or(0, |log| log.records.len());
    rest += read_cgroups(&view, &tasks).map_or(0, |all| all.cgroups.len());
    rest += read_cpu_times(&view).map_or(0, |all| all.cpus.len());
    (tasks, dsqs, rest)
}

#[test]
fn the_kernel_is_read_as_it_was_made() {
    for seed in SEEDS {
        let (guest, _) = toy_kernel(seed);
        let profile = guest.profile();
        let view = KernelView::new(&profile, &guest.ram);
        let tasks = read_tasks(&view).unwrap();
        let pids: Vec<i64> = tasks.tasks.iter().map(|task| task.pid).collect();
        assert_eq!(pids, [0, 101, 102]);
        let one = &tasks.tasks[1];
        assert_eq!((one.comm.as_str(), one.cgroup.as_deref()), ("waits", Some("/cg_0")));
        assert_eq!(one.cpus_allowed.as_ref().map(ToString::to_string).as_deref(), Some("0"));
        let scx = one.scx.as_ref().unwrap();
        assert_eq!((scx.dsq.as_ref().unwrap().number, scx.runnable_age_ns), (7, Some(2_000_000_000)));
        assert!(scx.runnable);

        let dsqs = read_dsqs(&view).unwrap();
        let queue = dsqs.user(7).unwrap();
        let queued: Vec<i64> = queue.tasks.iter().map(|task| task.pid).collect();
        assert_eq!(queued, [101, 102]);
        assert_eq!(
            dsqs.gaps.faults.iter().filter(|fault| fault.contains("queue 0x7")).count(),
            0,
            "{:?}",
            dsqs.gaps
        );

        let rqs = read_runqueue_details(&view).unwrap();
        assert_eq!(rqs.runqueues[0].runnable.len(), 2);
        let scx = read_schedulers(&view).unwrap();
        assert_eq!(scx.state.as_deref(), Some("enabled"));
        assert_eq!(scx.schedulers.len(), 1);
        assert_eq!(scx.schedulers[0].name.as_deref(), Some("demo"));
        let log = read_log(&view).unwrap();
        let lines: Vec<_> =
            log.records.iter().map(|line| (line.caller.as_str(), line.text.as_str())).collect();
        assert_eq!(lines, [("C1", "first"), ("T12", "second")]);
        let groups = read_cgroups(&view, &tasks).unwrap();
        let groups: Vec<_> = groups.cgroups.iter().map(|one| (one.path.as_str(), one.tasks)).collect();
        assert_eq!(groups, [("/", 0), ("/cg_0", 1)]);
        assert_eq!(read_cpu_times(&view).unwrap().cpus[0].ns, [5_000_000, 0]);
    }
}

#[test]
fn a_thread_that_has_ended_is_counted_in_no_cgroup() {
    for seed in SEEDS {
        let (mut guest, _) = toy_kernel(seed);
        let profile = guest.profile();
        let tasks = read_tasks(&KernelView::new(&profile, &guest.ram)).unwrap();
        let [one, two] = [101, 102].map(|pid| tasks.by_pid(pid).unwrap());
        let set = one.css_set_at.unwrap().0;
        let [cgroups, node] = ["cgroups", "cg_list"].map(|field| guest.offset("task_struct", field));
        let [running, dying] = ["tasks", "dying_tasks"].map(|field| guest.offset("css_set", field));
        let count = |guest: &Guest| {
            let view = KernelView::new(&profile, &guest.ram);
            let tasks = read_tasks(&view).unwrap();
            let all = read_cgroups(&view, &tasks).unwrap().cgroups;
            all.iter().find(|cgroup| cgroup.path == "/cg_0").unwrap().tasks
        };
        // The second has ended and was not waited for: it is in the same set, on another list.
        guest.write_u64(two.at.0 + cgroups, set);
        guest.ring(&[set + dying, two.at.0 + node]);
        assert_eq!(count(&guest), 1);
        guest.ring(&[set + running, one.at.0 + node, two.at.0 + node]);
        assert_eq!(count(&guest), 2);
    }
}

#[test]
fn a_tree_that_is_not_in_the_order_of_its_list_is_a_fault() {
    for seed in SEEDS {
        let (mut guest, _) = toy_kernel(seed);
        let profile = guest.profile();
        let queue = read_dsqs(&KernelView::new(&profile, &guest.ram)).unwrap();
        let [one, two] = [0, 1].map(|at| queue.user(7).unwrap().tasks[at].at.0);
        // `one` to the right of `two`.
        let [node, left, right] = ["", ".rb_left", ".rb_right"]
            .map(|field| guest.offset("task_struct", &format!("scx.dsq_priq{field}")));
        guest.write_u64(two + left, 0);
        guest.write_u64(two + right, one + node);
        let (_, dsqs, _) = read_all(&guest, &profile);
        assert!(dsqs.gaps.faults.iter().any(|fault| fault.contains("in another order")), "{:?}", dsqs.gaps);
    }
}

/// Words to [`overwrite`].
pub(crate) fn writes() -> impl Strategy<Value = Vec<Overwrite>> {
    prop::collection::vec((any::<u32>(), 0u8..6, any::<u64>()), 1..48)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_reader_ends_on_any_memory(seed in SEEDS, writes in writes()) {
        let (mut guest, words) = toy_kernel(seed);
        let profile = guest.profile();
        let count = (words.end - words.start) / 8;
        overwrite(&mut guest, &words, &writes);
        let (tasks, dsqs, rest) = read_all(&guest, &profile);
        prop_assert!(tasks.tasks.len() <= count as usize);
        prop_assert!(dsqs.dsqs.len() <= 1 << 16);
        prop_assert!(rest <= 4 * count as usize);
    }
}
