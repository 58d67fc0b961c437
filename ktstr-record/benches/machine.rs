//! What it costs to start a machine and to look into it: boots, restores, jobs, stops and samples of a real guest.
//!
//! Each ends its machine: two would wait for each other's CPUs.
//!
//! Fetches kernel and emulator first if they are not in the cache.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use divan::Bencher;
use guest_init::message::{GuestStage, ToHost};
use ktstr_record::channel::{HostChannel, Received};
use ktstr_record::checkpoint::ChangeTracker;
use ktstr_record::init_image;
use ktstr_record::job::{ByChannel, ClockAndSeed, JobBuilder, JobLimits, JobParts};
use ktstr_record::machine::{ChannelRam, Machine, StartPolicy, start};
use ktstr_record::provision::{KernelSpec, Provisioner};
use ktstr_record::spec::{MachineSpec, Topology};
use ktstr_replay::kernel::{Caps, KernelProfile, KernelView, PageClassifier, SampleReader};
use ktstr_replay::units::{GuestNs, HostNs};

/// How long a guest may take to unpack its job.
const UNPACKING: Duration = Duration::from_secs(20);

fn main() {
    divan::main();
}

/// Kernel, emulator and cache of this host.
struct Host {
    provisioner: Provisioner,
    spec: MachineSpec,
}

static HOST: LazyLock<Host> = LazyLock::new(|| {
    let provisioner = Provisioner::open().expect("a cache");
    let spec = MachineSpec {
        backend: provisioner.emulator().expect("an emulator").into(),
        kernel: provisioner.kernel(&KernelSpec::Latest).expect("a kernel"),
        topology: Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 2, threads_per_core: 1 },
        memory_mib: 512,
        kaslr: false,
        kargs: Vec::new(),
        performance: false,
    };
    Host { provisioner, spec }
});

fn started(cold: bool) -> Box<dyn Machine> {
    started_with(&HOST.spec, cold)
}

fn started_with(spec: &MachineSpec, cold: bool) -> Box<dyn Machine> {
    let cache: &Path = HOST.provisioner.cache().root();
    let policy = StartPolicy { cold, ..StartPolicy::default() };
    start(spec, init_image(), cache, policy).expect("a machine").0
}

/// From nothing to init waiting for its job, without and with KASLR; promised: 3 s.
#[divan::bench(sample_count = 5, sample_size = 1, args = [false, true])]
fn boot_to_init(kaslr: bool) -> Box<dyn Machine> {
    started_with(&MachineSpec { kaslr, ..HOST.spec.clone() }, true)
}

/// From a template to init waiting for its job.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn restore_to_init(bencher: Bencher<'_, '_>) {
    drop(started(false));
    bencher.bench_local(|| drop(started(false)));
}

/// From a template to a job that is unpacked, this benchmark with its libraries being the test binary; promised: 0.4 s.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn restore_to_job(bencher: Bencher<'_, '_>) {
    drop(started(false));
    let mut job = JobBuilder::new();
    let exe = std::env::current_exe().expect("the path of this benchmark");
    job.test(&exe, &[String::from("--help")], &[]).expect("a job");
    let job = job
        .build(JobLimits { enable_ms: 1000, restart_ms: 1000, test_ms: 1000, exit_ms: 1000 })
        .expect("a job");
    bencher.bench_local(|| {
        let machine = started(false);
        let memory = ChannelRam::new(machine.ram(), HOST.spec.channel_base()).expect("the channel");
        let mut channel = HostChannel::new(memory);
        let deadline = Instant::now() + UNPACKING;
        let way = &mut ByChannel { channel: &mut channel, deadline };
        job.deliver(JobParts::All, way, ClockAndSeed::now().expect("a seed")).expect("a delivery");
        while !channel.poll().iter().any(is_unpacked) {
            assert!(Instant::now() < deadline, "the job is not unpacked");
            std::thread::sleep(Duration::from_micros(200));
        }
        machine
    });
}

fn is_unpacked(received: &Received) -> bool {
    matches!(received, Received::Frame { message: ToHost::Stage { stage: GuestStage::JobUnpacked, .. }, .. })
}

/// The machine's own part of every pause: stop and go on.
#[divan::bench(sample_count = 100, sample_size = 1)]
fn stop_and_go_on(bencher: Bencher<'_, '_>) {
    let mut machine = started(false);
    bencher.bench_local(|| {
        machine.pause().expect("a stop");
        machine.resume().expect("going on");
    });
}

/// What a sample adds to it: registers, sched_ext, runqueues and maps; promised: 1 ms.
#[divan::bench(sample_count = 100, sample_size = 1)]
fn sample(bencher: Bencher<'_, '_>) {
    let mut machine = started(false);
    machine.pause().expect("a stop");
    let ram = machine.ram();
    let profile = KernelProfile::from_memory(&*ram).expect("a kernel");
    let mut reader = SampleReader::new(Caps::default());
    bencher.bench_local(|| {
        let registers = machine.registers().expect("registers");
        (registers, reader.read(&KernelView::new(&profile, &*ram)))
    });
}

/// What a checkpoint adds to it when little has changed: promised: 15 ms.
#[divan::bench(args = ["kernel", "all"], sample_count = 20, sample_size = 1)]
fn later_checkpoint(bencher: Bencher<'_, '_>, pages: &str) {
    let mut machine = started(false);
    machine.pause().expect("a stop");
    let ram = machine.ram();
    let mut tracker = ChangeTracker::new(ram.ranges(), None, 2);
    let profile = KernelProfile::from_memory(&*ram).expect("a kernel");
    let classifier = PageClassifier::new(Arc::new(profile)).expect("a kernel whose pages can be told apart");
    let classes = || {
        let all = ram.ranges();
        (pages == "kernel").then(|| classifier.classify(&*ram, &all).expect("classes"))
    };
    tracker.capture(&*ram, classes().as_ref(), None, None, GuestNs(0), HostNs(0));
    bencher.bench_local(|| tracker.capture(&*ram, classes().as_ref(), None, None, GuestNs(0), HostNs(0)));
}

/// Symbols and types of a kernel out of memory, once a run and beside it.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn kernel_profile(bencher: Bencher<'_, '_>) {
    let machine = started(false);
    let ram = machine.ram();
    bencher.bench_local(|| KernelProfile::from_memory(&*ram).expect("a kernel"));
}
