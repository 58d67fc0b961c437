//! Reading a kernel's memory, some words of which are another's: every reader and walker must come to an end. One kernel is the
//! toy kernel of the tests, small enough that mutations soon meet all of it, and one is real: `KTSTR_FUZZ_TRACE` names a trace
//! with a checkpoint (`cargo ktstr test demo` leaves one under `target/ktstr`).
//!
//! The first byte chooses reader and kernel. The rest is read in steps of 12 bytes: which read is to be changed (counted from the
//! last change), where in it, how, and the word that goes there.
#![no_main]

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ktstr_replay::path::Projection;
use ktstr_replay::kernel::cgroup::read_cgroups;
use ktstr_replay::kernel::cputime::read_cpu_times;
use ktstr_replay::kernel::dsq::read_dsqs;
use ktstr_replay::kernel::log::read_log;
use ktstr_replay::kernel::maps::BpfObjects;
use ktstr_replay::kernel::query;
use ktstr_replay::kernel::runqueue::read_runqueue_details;
use ktstr_replay::kernel::scx::read_schedulers;
use ktstr_replay::kernel::task::read_tasks;
use ktstr_replay::kernel::unwind::Unwinder;
use ktstr_replay::kernel::{Caps, KernelProfile, KernelView, PageClassifier, SampleReader, Vmcoreinfo};
use ktstr_replay::memory::{Memory, MemoryError};
use ktstr_replay::trace::record::VcpuRegs;
use ktstr_replay::testing::toy_kernel;
use ktstr_replay::trace::Trace;
use ktstr_replay::units::GuestPhys;
use libfuzzer_sys::fuzz_target;

struct Base {
    memory: Box<dyn Memory + Send + Sync>,
    ram: Vec<Range<u64>>,
    profile: Arc<KernelProfile>,
    /// The toy kernel has no array of `struct page`.
    classifier: Option<PageClassifier>,
    vcpus: Vec<VcpuRegs>,
    /// Where the vmcoreinfo is: a search through all memory for each input would be all that is done.
    vmcoreinfo: Range<u64>,
}

/// Memory of which a search sees a part.
struct Part<'a>(&'a dyn Memory, Range<u64>);

impl Memory for Part<'_> {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(at, out)
    }

    fn populated(&self) -> Vec<Range<u64>> {
        std::iter::once(self.1.clone()).collect()
    }
}

fn bases() -> &'static [Base; 2] {
    static BASES: OnceLock<[Base; 2]> = OnceLock::new();
    BASES.get_or_init(|| [recorded(), toy()])
}

fn toy() -> Base {
    let (guest, words) = toy_kernel(0);
    let profile = Arc::new(guest.profile());
    Base {
        memory: Box::new(guest.ram),
        ram: Vec::new(),
        profile,
        classifier: None,
        vcpus: vec![VcpuRegs { rip: words.start, ..VcpuRegs::default() }],
        vmcoreinfo: 0..0,
    }
}

fn recorded() -> Base {
    let path = std::env::var_os("KTSTR_FUZZ_TRACE")
        .expect("KTSTR_FUZZ_TRACE must name a trace with a checkpoint: `cargo ktstr test demo` records one");
    let trace = Box::leak(Box::new(Trace::open(Path::new(&path)).expect("the trace opens")));
    let last = trace.checkpoints().last().expect("the trace has a checkpoint").index;
    let memory = trace.checkpoint_memory(last).expect("the checkpoint decodes");
    let vmcoreinfo = memory
        .populated()
        .into_iter()
        .flat_map(|range| range.clone().step_by(4096).map(move |at| at..(at + 4096).min(range.end)))
        .find(|page| !Vmcoreinfo::candidates(&Part(&memory, page.clone())).0.is_empty())
        .expect("the kernel's vmcoreinfo");
    let profile = Arc::new(KernelProfile::of_trace(trace).expect("the kernel's profile"));
    let taken_with = memory.info().sample.expect("a checkpoint belongs to a sample");
    let sample = trace.samples().flatten().find(|sample| sample.index == taken_with);
    let ram = memory.ram();
    Base {
        vmcoreinfo,
        ram: ram[..ram.len().min(2)].to_vec(),
        memory: Box::new(memory),
        classifier: Some(PageClassifier::new(Arc::clone(&profile)).expect("the kernel's struct page")),
        vcpus: sample.expect("its sample").vcpus,
        profile,
    }
}

/// The checkpoint, as the input changes it.
struct Hostile<'a> {
    base: &'static Base,
    steps: Cell<&'a [[u8; 12]]>,
    until: Cell<u32>,
    /// Words seen lately: the best lies are true elsewhere.
    seen: RefCell<Vec<[u8; 8]>>,
}

impl Memory for Hostile<'_> {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        self.base.memory.read(at, out)?;
        let mut seen = self.seen.borrow_mut();
        if let Some(word) = out.first_chunk::<8>()
            && seen.len() < 4096
        {
            seen.push(*word);
        }
        let Some((step, rest)) = self.steps.get().split_first() else { return Ok(()) };
        if self.until.get() > 0 {
            self.until.set(self.until.get() - 1);
            return Ok(());
        }
        self.steps.set(rest);
        self.until.set(rest.first().map_or(0, |next| u32::from(u16::from_le_bytes([next[0], next[1]]))));
        let mut word: [u8; 8] = std::array::from_fn(|i| step[4 + i]);
        if step[3] & 1 == 1 && !seen.is_empty() {
            word = seen[usize::from(u16::from_le_bytes([word[0], word[1]])) % seen.len()];
        }
        let words = (out.len() / 8).max(1);
        let from = usize::from(step[2]) % words * 8;
        for (byte, new) in out[from..].iter_mut().zip(word) {
            *byte = new;
        }
        Ok(())
    }

    fn populated(&self) -> Vec<Range<u64>> {
        std::iter::once(self.base.vmcoreinfo.clone()).collect()
    }
}

/// Numbers that claims ask of a kernel: each a walk of its own.
const PATHS: [&str; 5] = [
    "rq[1].curr->pid",
    "task[comm=init].prio",
    "task[1].scx.dsq_vtime",
    "dsq[0x0].nr",
    "kernel.(struct task_struct)init_task.tasks.next->next",
];

fuzz_target!(|input: &[u8]| {
    let Some((which, steps)) = input.split_first() else { return };
    let steps = steps.as_chunks::<12>().0;
    let until = steps.first().map_or(0, |next| u32::from(u16::from_le_bytes([next[0], next[1]])));
    let base = &bases()[usize::from(which / 15 % 2)];
    let memory = Hostile { base, steps: Cell::new(steps), until: Cell::new(until), seen: RefCell::default() };
    let view = KernelView::new(&base.profile, &memory);
    match which % 15 {
        0 => drop(read_tasks(&view)),
        1 => drop(read_runqueue_details(&view)),
        2 => drop(read_schedulers(&view)),
        3 => drop(read_dsqs(&view)),
        4 => drop(read_log(&view)),
        5 => drop(SampleReader::new(Caps::default()).read(&view)),
        6 => drop(read_cpu_times(&view)),
        7 => drop(KernelProfile::from_memory(&memory)),
        8 => {
            if let Ok(tasks) = read_tasks(&view) {
                drop(read_cgroups(&view, &tasks));
            }
        }
        9 => {
            let Ok(objects) = BpfObjects::read(&view) else { return };
            for map in objects.maps() {
                let _ = objects.view(map).entries().map(|entries| entries.len());
                let _ = (objects.operations(map), objects.struct_ops(map).map(|value| value.to_json()));
            }
        }
        10 => {
            let classified = base.classifier.as_ref().map(|pages| pages.classify(&memory, &base.ram));
            if let Some(Ok(classes)) = classified {
                drop(classes.left_out());
            }
        }
        11 => {
            for path in PATHS {
                let Ok(Projection::Kernel(path)) = path.parse() else { panic!("{path} is no path") };
                let _ = query::number(&view, &path).map_err(|error| error.to_string());
            }
        }
        12 => {
            // The instructions of all programs are followed.
            let _ = view.proven().is_ok();
        }
        which => {
            let Ok(tasks) = read_tasks(&view) else { return };
            // With the registers of the vCPUs, and without.
            let vcpus: &[VcpuRegs] = if which == 13 { &base.vcpus } else { &[] };
            for stack in Unwinder::new(&view, vcpus).all(&tasks).tasks {
                drop(stack.stack.lines());
            }
        }
    }
});
