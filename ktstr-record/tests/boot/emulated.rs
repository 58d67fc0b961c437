//! A boot image in the emulator, and what the kernel there says of its machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ktstr_record::machine::boot::{BootImage, PM1_EVENT_PORT};
use ktstr_record::spec::{Emulator, Topology};
use kvm_bindings::{kvm_regs, kvm_sregs};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::firmware::firmware;

/// Longer than any boot on a busy host; one that hangs is an error then.
const LONGEST: Duration = Duration::from_secs(600);

/// What a kernel says that dies of a fault of the emulator's, which keeps the translation of a breakpoint that the kernel has
/// replaced (`machine/qemu/stale.rs`). Nothing mends it in a guest that boots, as little as in the emulated machine, which
/// boots once more then.
const STALE_BREAKPOINT: &str = "Oops: int3";

static ALONE: Mutex<()> = Mutex::new(());

/// What the guest printed of itself: each thing with its lines.
pub struct Said(BTreeMap<String, Vec<String>>);

impl Said {
    #[track_caller]
    pub fn all(&self, what: &str) -> &[String] {
        self.0.get(what).unwrap_or_else(|| panic!("no {what} in {:?}", self.0.keys()))
    }

    #[track_caller]
    pub fn one(&self, what: &str) -> &str {
        let all = self.all(what);
        assert_eq!(all.len(), 1, "{what}: {all:?}");
        &all[0]
    }

    /// What begins with `prefix`, without it.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(what, lines)| Some((what.strip_prefix(prefix)?, lines.first()?.as_str())))
    }
}

/// Boot `image` on an emulated PC of this topology that is told nothing of NUMA nodes, up to its power-off.
pub fn boot(
    emulator: &Emulator,
    image: &BootImage<'_>,
    memory_bytes: u64,
    cpu: &str,
    topology: Topology,
) -> Said {
    let mut console = console_of(emulator, image, memory_bytes, cpu, topology);
    if console.contains(STALE_BREAKPOINT) {
        println!("the emulator executed a stale breakpoint; once more, after:\n{console}");
        console = console_of(emulator, image, memory_bytes, cpu, topology);
    }
    let mut said = BTreeMap::<String, Vec<String>>::new();
    for (what, value) in console.lines().filter_map(|line| line.strip_prefix("T ")?.split_once(": ")) {
        said.entry(what.to_owned()).or_default().push(value.trim_end().to_owned());
    }
    assert!(said.contains_key("end"), "the guest was cut short:\n{console}");
    Said(said)
}

/// All that such a guest wrote to its console.
fn console_of(
    emulator: &Emulator,
    image: &BootImage<'_>,
    memory_bytes: u64,
    cpu: &str,
    topology: Topology,
) -> String {
    let ram = fs::File::from(memfd_create("ktstr-boot", MemfdFlags::empty()).unwrap());
    ram.set_len(memory_bytes).unwrap();
    for region in &image.regions {
        ram.write_all_at(&region.bytes, region.at).unwrap();
    }
    let (mut regs, mut sregs) = (kvm_regs::default(), kvm_sregs::default());
    image.entry.set(&mut regs, &mut sregs);
    let dir = tempfile::tempdir().unwrap();
    let (bios, console) = (dir.path().join("bios"), dir.path().join("console"));
    fs::write(&bios, firmware(&regs, &sregs, &image.entry.msrs(), PM1_EVENT_PORT)).unwrap();

    let Topology { numa_nodes, llcs, cores_per_llc, threads_per_core } = topology;
    let smp = format!(
        "{},sockets={numa_nodes},dies={},cores={cores_per_llc},threads={threads_per_core}",
        topology.cpus(),
        llcs / numa_nodes
    );
    let object = format!(
        "memory-backend-file,id=m0,size={memory_bytes},mem-path=/proc/self/fd/{},share=on",
        ram.as_raw_fd()
    );
    let mut command = Command::new(&emulator.command[0]);
    command.args(&emulator.command[1..]).envs(emulator.env.iter().cloned());
    command.args(["-accel", "tcg,thread=multi", "-machine", "pc,memory-backend=m0,max-ram-below-4g=3G"]);
    command.args(["-cpu", cpu, "-smp", &smp, "-m", &format!("{}M", memory_bytes >> 20), "-object", &object]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-bios").arg(&bios).arg("-serial").arg(format!("file:{}", console.display()));
    // One at a time: each has more vCPUs than a host may have CPUs.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begun.elapsed() > LONGEST {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let console = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
    assert!(status.is_some_and(|status| status.success()), "{status:?}, its console:\n{console}");
    println!("{topology} ended in {:?}", begun.elapsed());
    console
}
