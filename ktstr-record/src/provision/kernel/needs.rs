//! The options that tests need of a kernel's configuration, and which of them a configuration has.

use std::collections::HashMap;

use serde::Serialize;

/// What is lost without an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// No test runs, or nothing can be read of it.
    Test,
    /// No BPF scheduler runs.
    Scheduler,
    /// The one thing that the option is for.
    Feature,
}

/// An option of a kernel's configuration that tests have a use for.
struct Row {
    option: &'static str,
    need: Need,
    /// What it is for.
    what: &'static str,
}

const fn row(need: Need, option: &'static str, what: &'static str) -> Row {
    Row { option, need, what }
}

/// All of them, the direst first. To add one: a row.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    row(Need::Test, "CONFIG_64BIT", "x86_64 programs"),
    row(Need::Test, "CONFIG_PVH", "the machine enters the kernel as an ELF"),
    row(Need::Test, "CONFIG_DEBUG_INFO_BTF", "the types of the kernel's memory"),
    row(Need::Test, "CONFIG_VMCORE_INFO", "where in memory the kernel and its symbols are"),
    row(Need::Test, "CONFIG_KALLSYMS_ALL", "the kernel's variables by name"),
    row(Need::Test, "CONFIG_BLK_DEV_INITRD", "the initramfs with init"),
    row(Need::Test, "CONFIG_BINFMT_ELF", "init and the test's programs"),
    row(Need::Test, "CONFIG_DEVTMPFS", "init's /dev"),
    row(Need::Test, "CONFIG_DEVMEM", "the channel between guest and host"),
    row(Need::Test, "CONFIG_PROC_FS", "init's /proc"),
    row(Need::Test, "CONFIG_SYSFS", "init's /sys"),
    row(Need::Test, "CONFIG_TMPFS", "init's /dev/shm"),
    row(Need::Test, "CONFIG_ADVISE_SYSCALLS", "init's memory of the channel, which no child shares"),
    row(Need::Test, "CONFIG_FUTEX", "programs with threads"),
    row(Need::Test, "CONFIG_EPOLL", "what init waits for"),
    row(Need::Test, "CONFIG_UNIX", "the test's socket to init"),
    row(Need::Test, "CONFIG_CGROUPS", "control groups"),
    row(Need::Scheduler, "CONFIG_SCHED_CLASS_EXT", "sched_ext"),
    row(Need::Scheduler, "CONFIG_BPF_SYSCALL", "loading BPF programs"),
    row(Need::Scheduler, "CONFIG_BPF_JIT", "sched_ext, and kfuncs"),
    row(Need::Feature, "CONFIG_SMP", "more than one CPU"),
    row(Need::Feature, "CONFIG_X86_IOPL_IOPERM", "the doorbell of a KVM machine, which is a port"),
    row(Need::Feature, "CONFIG_SERIAL_8250_CONSOLE", "the kernel's last words on the console"),
    row(Need::Feature, "CONFIG_CPUSETS", "cpusets"),
    row(Need::Feature, "CONFIG_CGROUP_SCHED", "CPU weights of control groups"),
    row(Need::Feature, "CONFIG_EXT_GROUP_SCHED", "schedulers that know control groups"),
    row(Need::Feature, "CONFIG_CFS_BANDWIDTH", "CPU quotas of control groups"),
    row(Need::Feature, "CONFIG_MEMCG", "memory limits of control groups"),
    row(Need::Feature, "CONFIG_BLK_CGROUP", "I/O weights of control groups"),
    row(Need::Feature, "CONFIG_CGROUP_PIDS", "`pids_max` of control groups"),
    row(Need::Feature, "CONFIG_NUMA", "topologies of several NUMA nodes"),
    row(Need::Feature, "CONFIG_X86_64_ACPI_NUMA", "topologies of several NUMA nodes"),
    row(Need::Feature, "CONFIG_SCHED_MC", "LLCs, as the kernel's own scheduler sees them"),
    row(Need::Feature, "CONFIG_HOTPLUG_CPU", "CPUs that go offline"),
    row(Need::Feature, "CONFIG_RANDOMIZE_BASE", "a kernel placed at random"),
    row(Need::Feature, "CONFIG_UNWINDER_ORC", "stacks of tasks"),
    row(Need::Feature, "CONFIG_EVENT_TRACING", "the history of what CPUs did"),
    row(Need::Feature, "CONFIG_MULTIUSER", "workers of other users"),
    row(Need::Feature, "CONFIG_SCHED_INFO", "run delays of workers"),
    row(Need::Feature, "CONFIG_DETECT_HUNG_TASK", "hung tasks fail a test"),
    row(Need::Feature, "CONFIG_SOFTLOCKUP_DETECTOR", "lockups fail a test"),
];

/// An option, and what the configuration says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OptionCheck {
    /// Its name, `CONFIG_...`.
    pub option: &'static str,
    /// What is lost without it.
    pub need: Need,
    /// What it is for.
    pub what: &'static str,
    /// Its value; `None` where it is not set.
    pub value: Option<String>,
}

impl OptionCheck {
    /// Whether it is built in: nothing loads modules in a guest.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.value.as_deref() == Some("y")
    }
}

/// What the configuration `text` says of all that tests have a use for.
pub(super) fn check(text: &[u8]) -> Vec<OptionCheck> {
    let values = values(text);
    let of = |row: &Row| OptionCheck {
        option: row.option,
        need: row.need,
        what: row.what,
        value: values.get(row.option).map(|value| (*value).to_owned()),
    };
    ROWS.iter().map(of).collect()
}

/// The options that are set in a configuration, with their values.
pub(super) fn values(text: &[u8]) -> HashMap<&str, &str> {
    // A line that is not text has no option that is looked for.
    let lines = text.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines
        .filter_map(|line| line.trim_end().split_once('='))
        .filter(|(name, _)| name.starts_with("CONFIG_"))
        .collect()
}

/// Options that others of the list stand on, with the values that a build is given: what `olddefconfig` would not choose by
/// itself over any configuration.
#[rustfmt::skip]
const BELOW: &[(&str, &str)] = &[
    ("CONFIG_EXPERT", "y"),
    ("CONFIG_HYPERVISOR_GUEST", "y"),
    ("CONFIG_KEXEC", "y"),
    ("CONFIG_CRASH_DUMP", "y"),
    ("CONFIG_KALLSYMS", "y"),
    ("CONFIG_PRINTK", "y"),
    ("CONFIG_BUG", "y"),
    ("CONFIG_EVENTFD", "y"),
    ("CONFIG_SIGNALFD", "y"),
    ("CONFIG_TIMERFD", "y"),
    ("CONFIG_POSIX_TIMERS", "y"),
    ("CONFIG_HIGH_RES_TIMERS", "y"),
    ("CONFIG_FILE_LOCKING", "y"),
    ("CONFIG_SHMEM", "y"),
    ("CONFIG_SYSCTL", "y"),
    ("CONFIG_DEBUG_FS", "y"),
    ("CONFIG_DEBUG_KERNEL", "y"),
    ("CONFIG_DEBUG_INFO_NONE", "n"),
    ("CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT", "y"),
    ("CONFIG_DEBUG_INFO_REDUCED", "n"),
    ("CONFIG_DEBUG_INFO_SPLIT", "n"),
    ("CONFIG_DEVTMPFS_MOUNT", "y"),
    ("CONFIG_NET", "y"),
    ("CONFIG_PCI", "y"),
    ("CONFIG_ACPI", "y"),
    ("CONFIG_BLOCK", "y"),
    ("CONFIG_TTY", "y"),
    ("CONFIG_SERIAL_8250", "y"),
    ("CONFIG_FAIR_GROUP_SCHED", "y"),
    ("CONFIG_RELOCATABLE", "y"),
    ("CONFIG_SCHEDSTATS", "y"),
    ("CONFIG_FTRACE", "y"),
    ("CONFIG_FUNCTION_TRACER", "y"),
    ("CONFIG_KPROBES", "y"),
    ("CONFIG_IKCONFIG", "y"),
    ("CONFIG_IKCONFIG_PROC", "y"),
];

/// As many CPUs as a machine has, at most. A kernel that is built for fewer brings up no more.
const CPUS: u32 = 256;

/// The fragment that a build has over the configuration `base`: a line for each option, as `.config` has it.
pub(super) fn fragment(base: &[u8]) -> String {
    let below = BELOW.iter().copied();
    let all = below.chain(ROWS.iter().map(|row| (row.option, "y")));
    let line = |(option, value): (&str, &str)| match value {
        "n" => format!("# {option} is not set\n"),
        value => format!("{option}={value}\n"),
    };
    let mut lines: String = all.map(line).collect();
    let most_cpus = values(base).get("CONFIG_NR_CPUS").and_then(|value| value.parse().ok());
    if most_cpus.is_none_or(|cpus: u32| cpus < CPUS) {
        lines.push_str(&format!("CONFIG_NR_CPUS={CPUS}\n"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_built_in_is_met() {
        let checks =
            check(b"#\nCONFIG_PVH=y\nCONFIG_UNIX=m\n# CONFIG_NUMA is not set\nCONFIG_64BIT=y\r\n\xff\n");
        let of = |option: &str| checks.iter().find(|check| check.option == option).unwrap();
        assert!(of("CONFIG_PVH").is_met() && of("CONFIG_64BIT").is_met());
        assert_eq!(of("CONFIG_UNIX").value.as_deref(), Some("m"));
        assert!(!of("CONFIG_UNIX").is_met() && !of("CONFIG_NUMA").is_met());
        assert_eq!(of("CONFIG_NUMA").value, None);
        assert_eq!(checks.len(), ROWS.len());
    }

    #[test]
    fn a_fragment_has_every_option_that_is_needed_once() {
        let text = fragment(b"");
        assert!(check(text.as_bytes()).iter().all(OptionCheck::is_met));
        let mut names: Vec<&str> = text
            .lines()
            .map(|line| line.trim_start_matches("# ").split(['=', ' ']).next().unwrap())
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(text.contains("# CONFIG_DEBUG_INFO_NONE is not set\n"));
    }

    #[test]
    fn a_build_is_for_as_many_cpus_as_machines_have_or_more() {
        let line = format!("CONFIG_NR_CPUS={CPUS}\n");
        for base in ["", "CONFIG_NR_CPUS=2\n", "CONFIG_NR_CPUS=many\n"] {
            assert!(fragment(base.as_bytes()).ends_with(&line), "{base}");
        }
        assert!(!fragment(b"CONFIG_NR_CPUS=8192\n").contains("NR_CPUS"));
    }
}
