//! The objects of several schedulers, in kernels of any layout: which is meant by a name, and what damage hides.

use proptest::prelude::*;

use super::*;
use crate::kernel::query::{QueryError, locate, number};
use crate::path::{KernelPath, Projection};
use crate::testing::{Guest, Object, SEEDS};
use crate::value::{Scalar, ValueError};
use crate::watch::{Missing, WatchTarget};

/// `BPF_MAP_TYPE_STRUCT_OPS`.
const STRUCT_OPS: u32 = 26;
/// An address in the kernel's half at which there is nothing.
const NOWHERE: u64 = 0xffff_ffff_ffff_f000;

/// A kernel with schedulers.
struct Kernel {
    guest: Guest,
    node: Object,
    all: Object,
    maps: u32,
}

/// The object of a scheduler.
#[derive(Clone, Copy)]
struct Loaded {
    btf: KernelVirt,
    /// Where its map keeps the pointer to its scheduler.
    held: u64,
    scheduler: Object,
}

impl Kernel {
    fn of(mut guest: Guest) -> Self {
        guest.cpus(1);
        let node = guest.add("xa_node");
        let idr = guest.variable("map_idr", "idr");
        guest.set(idr, "idr_rt.xa_head", node.at + 2);
        guest.number("scx_root", "ptr", 0u32);
        let all = guest.variable("scx_sched_all", "list_head");
        guest.ring(&[all.at]);
        Self { guest, node, all, maps: 0 }
    }

    fn new(seed: u64) -> Self {
        Self::of(Guest::new(seed))
    }

    fn scheduler(&mut self, name: &str, level: u32, cgroup: &str) -> Object {
        let scheduler = self.guest.add("scx_sched");
        self.guest.text(scheduler, "ops.name", name);
        self.guest.set(scheduler, "level", level);
        self.guest.point_at_text(scheduler, "cgrp_path", cgroup);
        scheduler
    }

    /// The kernel's list of all schedulers.
    fn link(&mut self, schedulers: &[Loaded]) {
        let nodes = schedulers.iter().map(|one| self.guest.at(one.scheduler, "all"));
        let nodes: Vec<u64> = std::iter::once(self.all.at).chain(nodes).collect();
        self.guest.ring(&nodes);
    }

    /// A `struct_ops` map of an object that holds this; gives where.
    fn map(&mut self, btf: KernelVirt, holds: u64) -> u64 {
        self.maps += 1;
        let map = self.guest.add_with("bpf_struct_ops_map", self.guest.bytes("bpf_struct_ops_sched_ext_ops"));
        let value = self.guest.type_id("bpf_struct_ops_sched_ext_ops").0;
        self.guest.set(map, "map.id", self.maps);
        self.guest.set(map, "map.map_type", STRUCT_OPS);
        self.guest.set(map, "map.btf", btf.0);
        self.guest.set(map, "map.btf_vmlinux_value_type_id", value);
        self.guest.set(self.node, &format!("slots[{}]", self.maps), map);
        let held =
            self.guest.at(map, "kvalue") + self.guest.offset("bpf_struct_ops_sched_ext_ops", "data.priv");
        self.guest.write_u64(held, holds);
        held
    }

    /// An object, loaded, and its scheduler.
    fn load(&mut self, name: &str, level: u32, cgroup: &str) -> Loaded {
        let scheduler = self.scheduler(name, level, cgroup);
        let btf = KernelVirt(self.guest.add("btf").at);
        Loaded { btf, held: self.map(btf, scheduler.at), scheduler }
    }

    fn objects<R>(&self, look: impl FnOnce(&KernelView<'_>, &SchedulerObjects) -> R) -> R {
        let profile = self.guest.profile();
        let view = KernelView::new(&profile, &self.guest.ram);
        let objects = SchedulerObjects::read(&view).expect("the table of maps");
        look(&view, &objects)
    }

    fn pointers(&self, name: &str) -> Vec<u64> {
        self.objects(|view, objects| objects.pointers(view, name).iter().map(|at| at.0).collect())
    }

    /// What a path comes to.
    fn ask(&self, text: &str) -> Result<Scalar, QueryError> {
        let profile = self.guest.profile();
        let view = KernelView::new(&profile, &self.guest.ram);
        number(&view, &path(text)).map(|reading| reading.scalar)
    }
}

fn path(text: &str) -> KernelPath {
    match text.parse() {
        Ok(Projection::Kernel(path)) => path,
        other => panic!("{text}: {other:?}"),
    }
}

/// A root and two below it, of which one is of the same source.
fn three(seed: u64) -> (Kernel, [Loaded; 3]) {
    let mut kernel = Kernel::new(seed);
    let root = kernel.load("qmap", 0, "/");
    let below = kernel.load("qmap", 1, "/below");
    let deeper = kernel.load("flat", 2, "/below/deeper");
    kernel.link(&[root, below, deeper]);
    (kernel, [root, below, deeper])
}

#[test]
fn each_scheduler_has_its_object_by_cgroup_by_name_and_by_both() {
    for seed in SEEDS {
        let (kernel, [root, below, deeper]) = three(seed);
        kernel.objects(|view, objects| {
            for (name, is) in [
                ("/", root),
                ("/below", below),
                ("qmap on /below", below),
                ("/below/deeper", deeper),
                ("flat", deeper),
            ] {
                assert_eq!(objects.named(name), Some(vec![is.btf]), "{name}");
                assert_eq!(objects.several(name), None, "{name}");
                assert_eq!(objects.pointers(view, name), [KernelVirt(is.held)], "{name}");
            }
            assert_eq!(objects.named("/belw"), None);
            let held = |one: Loaded| objects.held_by(one.btf).map(|at| at.0).collect::<Vec<_>>();
            assert_eq!([root, below, deeper].map(held), [root, below, deeper].map(|one| vec![one.held]));
            assert_eq!(objects.below(), BTreeSet::from([below.btf, deeper.btf]));
            assert_eq!(objects.names(), ["/", "/below", "/below/deeper", "flat", "qmap"]);
            assert!(!objects.is_root_alone("/"));
            assert!([root, below, deeper].iter().all(|one| !objects.is_idle(one.btf)));
        });
    }
}

#[test]
fn a_name_that_two_have_is_an_error_that_lists_both() {
    for seed in SEEDS {
        let (kernel, [root, below, _]) = three(seed);
        let both = ["scheduler(/)", "scheduler(/below)"].map(|name| format!("`{name}`"));
        kernel.objects(|view, objects| {
            assert_eq!(objects.named("qmap"), Some(vec![root.btf, below.btf]));
            assert_eq!(objects.several("qmap").as_deref(), Some(&both[..]));
            assert_eq!(objects.pointers(view, "qmap").len(), 2);
        });
        let Err(QueryError::Value(ValueError::SeveralSchedulers { name, which })) =
            kernel.ask("scheduler(qmap)->exit_kind")
        else {
            panic!("one of two was taken")
        };
        assert_eq!((name.as_str(), which), ("qmap", both.to_vec()));
    }
}

#[test]
fn a_field_of_a_scheduler_is_found_by_its_cgroup() {
    for seed in SEEDS {
        let (mut kernel, [_, below, _]) = three(seed);
        kernel.guest.set(below.scheduler, "exit_kind", 1025u32);
        assert_eq!(kernel.ask("scheduler(/below)->exit_kind"), Ok(Scalar::Int(1025)));
        assert_eq!(kernel.ask("scheduler(/)->exit_kind"), Ok(Scalar::Int(0)));
        let error = kernel.ask("scheduler(/belw)->exit_kind").expect_err("there is none").to_string();
        assert!(error.contains("did you mean `/below`?"), "{error}");
        // A watch is at the field, and moves with the kernel's pointer to its scheduler and with the list of all.
        let profile = kernel.guest.profile();
        let view = KernelView::new(&profile, &kernel.guest.ram);
        let found = locate(&view, &path("scheduler(/below)->exit_kind")).expect("a place");
        assert_eq!((found.at.0, found.bytes), (kernel.guest.at(below.scheduler, "exit_kind"), 4));
        let target: WatchTarget = "scheduler(/below)->exit_kind".parse().expect("a target");
        assert_eq!(target.find(&view), Ok(found));
        let moves: BTreeSet<u64> = target.moves_with(&view).iter().map(|place| place.at.0).collect();
        let end = kernel.guest.at(kernel.all, "prev");
        assert!(moves.contains(&below.held) && moves.contains(&end), "{moves:x?}");
        let target: WatchTarget = "scheduler(/later)->exit_kind".parse().expect("a target");
        assert!(matches!(target.find(&view), Err(Missing::Now(_))), "it may come");
        assert!(target.moves_with(&view).iter().any(|place| place.at.0 == end));
    }
}

#[test]
fn one_on_its_way_out_is_meant_until_another_takes_its_place() {
    for seed in SEEDS {
        let (mut kernel, [root, below, deeper]) = three(seed);
        // It has left the list, and its loader is still there.
        kernel.link(&[root, deeper]);
        assert_eq!(kernel.pointers("/below"), [below.held]);
        let next = kernel.load("qmap", 1, "/below");
        kernel.link(&[root, deeper, next]);
        assert_eq!(kernel.pointers("/below"), [next.held]);
        kernel.objects(|_, objects| {
            assert_eq!(objects.named("/below"), Some(vec![below.btf, next.btf]));
            assert_eq!(objects.several("/below"), None, "both are called that");
        });
        // Its loader has let go: the object could make another.
        kernel.guest.write_u64(below.held, 0);
        kernel.objects(|_, objects| {
            assert!(objects.is_idle(below.btf) && !objects.is_idle(next.btf));
            assert_eq!(objects.named("/below"), Some(vec![next.btf]));
        });
        // Of two that have ended, the one that was loaded last is meant.
        kernel.guest.write_u64(below.held, below.scheduler.at);
        kernel.link(&[root, deeper]);
        assert_eq!(kernel.pointers("/below"), [next.held]);
    }
}

#[test]
fn an_object_one_of_whose_maps_has_a_scheduler_is_not_idle() {
    for seed in SEEDS {
        let (mut kernel, [root, ..]) = three(seed);
        kernel.map(root.btf, 0);
        let unused = KernelVirt(kernel.guest.add("btf").at);
        kernel.map(unused, 0);
        // Of a map without types nothing is said.
        kernel.map(KernelVirt(0), 0);
        kernel.objects(|_, objects| {
            assert!(!objects.is_idle(root.btf) && objects.is_idle(unused));
            assert!(!objects.is_idle(KernelVirt(0)));
        });
    }
}

#[test]
fn what_is_damaged_hides_no_other() {
    for seed in SEEDS {
        let (mut kernel, [root, below, deeper]) = three(seed);
        // Its scheduler is nowhere: it is neither there nor idle.
        kernel.guest.write_u64(deeper.held, NOWHERE);
        kernel.objects(|_, objects| {
            assert_eq!(objects.named("/below/deeper"), None);
            assert!(!objects.is_idle(deeper.btf));
            assert_eq!(objects.named("/below"), Some(vec![below.btf]));
        });
        // The list leads into nothing, to itself without its head, or its head is of nothing.
        let node = |kernel: &Kernel, one: Loaded| kernel.guest.at(one.scheduler, "all");
        for next in [NOWHERE, 0, node(&kernel, root)] {
            let at = kernel.guest.at(root.scheduler, "all.next");
            kernel.guest.write_u64(at, next);
            assert_eq!(kernel.pointers("/"), [root.held], "{next:#x}");
            assert_eq!(kernel.pointers("/below"), [below.held], "{next:#x}");
        }
        let head = kernel.guest.at(kernel.all, "next");
        kernel.guest.write_u64(head, NOWHERE);
        assert_eq!(kernel.pointers("/below"), [below.held]);
        // Its name is nowhere: it goes by that of its program.
        kernel.guest.set(below.scheduler, "cgrp_path", NOWHERE);
        kernel.objects(|_, objects| {
            assert_eq!(objects.named("/below"), None);
            assert_eq!(objects.named("qmap"), Some(vec![root.btf, below.btf]));
        });
    }
}

/// A kernel from before sub-schedulers says of no map which scheduler it has made.
#[test]
fn where_the_kernel_does_not_say_it_there_is_the_root_alone() {
    for seed in SEEDS {
        let mut kernel = Kernel::of(Guest::lacking(seed, &["sched_ext_ops.priv"]));
        let root = kernel.scheduler("demo", 0, "/");
        kernel.guest.set(root, "exit_kind", 7u32);
        let at = kernel.guest.profile().symbols().address("scx_root").expect("a symbol");
        kernel.guest.write_u64(at.0, root.at);
        kernel.objects(|view, objects| {
            assert!(objects.is_root_alone("/") && !objects.is_root_alone("/below"));
            assert!(objects.names().is_empty() && objects.pointers(view, "/").is_empty());
        });
        assert_eq!(kernel.ask("scheduler(/)->exit_kind"), Ok(Scalar::Int(7)));
        assert!(kernel.ask("scheduler(/below)->exit_kind").is_err());
    }
}

proptest! {
    #[test]
    fn overwritten_words_are_no_harm(layout in 0u64..4, at in 0u64..0x1000, word: u64) {
        let (mut kernel, _) = three(layout);
        kernel.guest.ram.write_u64(0x1_0000 + at / 8 * 8, word);
        let profile = kernel.guest.profile();
        let view = KernelView::new(&profile, &kernel.guest.ram);
        if let Ok(objects) = SchedulerObjects::read(&view) {
            for name in objects.names() {
                let _ = objects.pointers(&view, &name);
            }
        }
        let _ = kernel.ask("scheduler(/below)->exit_kind");
    }
}
