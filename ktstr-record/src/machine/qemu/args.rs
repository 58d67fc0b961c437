//! The emulator's arguments.

use std::ffi::OsString;
use std::path::Path;

use super::process::inherited_path;
use crate::spec::{LOW_RAM_LIMIT_BYTES, MachineSpec, Topology};

/// File descriptors that the emulator inherits, under the same numbers. None of them has a name in a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inherited {
    /// RAM of each NUMA node.
    pub ram: Vec<i32>,
    /// The initramfs.
    pub initrd: i32,
    /// Where the serial console's bytes go.
    pub console: i32,
    /// Our end of QMP is the other end of this socket.
    pub qmp: i32,
    /// The same for the gdbstub.
    pub gdb: i32,
}

/// All that can be emulated but fast strings: where a CPU has them, kernel and C library move bytes by `rep movsb`, which
/// an emulated one does byte by byte; else by words. A warm run of the demo is 0.15 s shorter.
const CPU: &str = "max,-erms,-fsrm,-fzrm,-fsrs,-fsrc";

/// Arguments that boot `spec`, or with `restore` make the same machine wait for a saved state.
///
/// The machine starts stopped (`-S`). The end of the guest in any way leaves it stopped, too
/// (`-no-reboot -action shutdown=pause`), so that its memory can be read.
pub(super) fn build(spec: &MachineSpec, kernel: &Path, fds: &Inherited, restore: bool) -> Vec<OsString> {
    let mut args = Args::default();
    let one_node = fds.ram.len() == 1;
    args.flag("-accel").value("tcg,thread=multi");
    let backend = if one_node { ",memory-backend=m0" } else { "" };
    args.flag("-machine").value(format!("pc,max-ram-below-4g={LOW_RAM_LIMIT_BYTES}{backend}"));
    args.flag("-cpu").value(CPU);
    args.flag("-smp").value(smp(spec.topology));
    args.flag("-m").value(format!("{}M", spec.memory_mib));
    for (node, (fd, bytes)) in fds.ram.iter().zip(spec.node_bytes()).enumerate() {
        let path = inherited_path(*fd);
        let path = path.display();
        args.flag("-object")
            .value(format!("memory-backend-file,id=m{node},size={bytes},mem-path={path},share=on"));
        if !one_node {
            let cpus = spec.topology.cpus() / spec.topology.numa_nodes;
            let (first, last) = (node as u32 * cpus, (node as u32 + 1) * cpus - 1);
            args.flag("-numa").value(format!("node,nodeid={node},cpus={first}-{last},memdev=m{node}"));
        }
    }
    args.flag("-kernel").value(kernel);
    args.flag("-initrd").value(inherited_path(fds.initrd));
    args.flag("-append").value(spec.cmdline());
    args.flag("-nodefaults").flag("-no-user-config").flag("-display").value("none");
    args.flag("-no-reboot").flag("-action").value("shutdown=pause").flag("-S");
    let console = inherited_path(fds.console);
    args.flag("-chardev").value(format!("file,id=console,path={},append=on", console.display()));
    args.flag("-serial").value("chardev:console");
    args.flag("-chardev").value(format!("socket,id=qmp,fd={}", fds.qmp));
    args.flag("-mon").value("chardev=qmp,mode=control");
    args.flag("-chardev").value(format!("socket,id=gdb,fd={}", fds.gdb));
    args.flag("-gdb").value("chardev:gdb");
    if restore {
        args.flag("-incoming").value("defer");
    }
    args.0
}

/// A socket of the board is an LLC of the guest: the emulated CPU has its last-level cache by package, and the kernel
/// does not see dies.
fn smp(topology: Topology) -> String {
    let Topology { llcs, cores_per_llc, threads_per_core, .. } = topology;
    format!("{},sockets={llcs},dies=1,cores={cores_per_llc},threads={threads_per_core}", topology.cpus())
}

#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn value(&mut self, value: impl Into<OsString>) -> &mut Self {
        self.0.push(value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Inherited, build};
    use crate::spec::{Topology, test_spec};

    fn line(topology: Topology, restore: bool) -> String {
        let mut spec = test_spec();
        spec.topology = topology;
        let ram = (10..10 + topology.numa_nodes as i32).collect();
        let fds = Inherited { ram, initrd: 20, console: 21, qmp: 22, gdb: 23 };
        let args = build(&spec, Path::new("/k/vmlinux"), &fds, restore);
        args.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_node() {
        let line = line(Topology { numa_nodes: 1, llcs: 2, cores_per_llc: 3, threads_per_core: 2 }, false);
        assert!(line.contains("-smp 12,sockets=2,dies=1,cores=3,threads=2"), "{line}");
        assert!(line.contains("memory-backend=m0"), "{line}");
        assert!(line.contains("id=m0,size=536870912,mem-path=/proc/self/fd/10,share=on"), "{line}");
        assert!(!line.contains("-numa") && !line.contains("-incoming"), "{line}");
    }

    #[test]
    fn each_node_has_its_file_and_its_cpus() {
        let line = line(Topology { numa_nodes: 2, llcs: 4, cores_per_llc: 2, threads_per_core: 1 }, true);
        assert!(!line.contains("memory-backend="), "{line}");
        assert!(line.contains("id=m1,size=268435456,mem-path=/proc/self/fd/11"), "{line}");
        assert!(line.contains("-numa node,nodeid=0,cpus=0-3,memdev=m0"), "{line}");
        assert!(line.contains("-numa node,nodeid=1,cpus=4-7,memdev=m1"), "{line}");
        assert!(line.ends_with("-incoming defer"), "{line}");
    }
}
