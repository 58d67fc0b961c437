//! PID 1 of the guests of `tests/boot/main.rs`: prints what the kernel made of its machine, and powers off.
//!
//! Compiled with plain `rustc`, static, without crates: libc is declared by hand. A line is `T <what>: <value>`, where
//! `what` is a file, a table of ACPI, or a leaf of CPUID.

use std::arch::x86_64::__cpuid_count;
use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::fs;
use std::path::Path;

unsafe extern "C" {
    fn mount(src: *const c_char, at: *const c_char, kind: *const c_char, flags: c_ulong, data: *const c_void)
    -> c_int;
    fn reboot(how: c_int) -> c_int;
    fn sched_setaffinity(pid: c_int, len: usize, mask: *const u64) -> c_int;
}

const LEAVES: [(u32, u32); 5] = [(1, 1), (4, 4), (0xb, 3), (0x8000_001d, 4), (0x8000_001e, 1)];
const POWER_OFF: c_int = 0x4321_fedc;

fn show(path: &Path) {
    if let Ok(text) = fs::read_to_string(path) {
        for line in text.lines() {
            println!("T {}: {line}", path.display());
        }
    }
}

fn entries(folder: &str) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    found
}

fn main() {
    fs::create_dir_all("/proc").unwrap();
    fs::create_dir_all("/sys").unwrap();
    // SAFETY: constant, NUL-terminated strings.
    unsafe { mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, std::ptr::null()) };
    // SAFETY: as above.
    unsafe { mount(c"sysfs".as_ptr(), c"/sys".as_ptr(), c"sysfs".as_ptr(), 0, std::ptr::null()) };
    for file in ["/proc/cmdline", "/proc/iomem", "/sys/devices/system/cpu/online", "/sys/devices/system/node/online"] {
        show(Path::new(file));
    }
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    for cpu in 0..cpus {
        let folder = format!("/sys/devices/system/cpu/cpu{cpu}");
        for file in ["physical_package_id", "core_id", "core_cpus_list", "package_cpus_list"] {
            show(Path::new(&format!("{folder}/topology/{file}")));
        }
        for index in entries(&format!("{folder}/cache")) {
            for file in ["level", "type", "shared_cpu_list"] {
                show(&index.join(file));
            }
        }
        let mask = 1_u64 << cpu;
        // SAFETY: eight bytes that live as long as the call.
        assert_eq!(unsafe { sched_setaffinity(0, 8, &raw const mask) }, 0);
        for (leaf, indices) in LEAVES {
            for index in 0..indices {
                let found = __cpuid_count(leaf, index);
                let (a, b, c, d) = (found.eax, found.ebx, found.ecx, found.edx);
                println!("T cpuid {cpu} {leaf:#x} {index}: {a} {b} {c} {d}");
            }
        }
    }
    for node in entries("/sys/devices/system/node") {
        for file in ["cpulist", "distance", "meminfo"] {
            show(&node.join(file));
        }
    }
    for table in entries("/sys/firmware/acpi/tables") {
        if let Ok(bytes) = fs::read(&table) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("T {}: {hex}", table.display());
        }
    }
    println!("T end: 0");
    // SAFETY: no memory is involved.
    unsafe { reboot(POWER_OFF) };
}
