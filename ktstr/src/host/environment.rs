//! What `cargo ktstr test` and people set for tests. None of it changes a verdict.

use std::env;
use std::path::PathBuf;

/// Variable with the stderr that `cargo ktstr test` leaves open for its tests, as `say` reads it.
pub use ktstr_record::provision::SAY;

/// Variable with the kernel to boot.
pub const KERNEL: &str = "KTSTR_KERNEL";
/// Variable with a file that is the kernel's configuration.
pub const KERNEL_CONFIG: &str = "KTSTR_KERNEL_CONFIG";
/// Variable with the kind of machine to take, `qemu` or `kvm`; without it the probe of KVM chooses.
pub const MACHINE: &str = "KTSTR_MACHINE";
/// Variable that lets the KVM machine make and use templates, which has not been shown on hardware yet.
pub const KVM_TEMPLATES: &str = "KTSTR_KVM_TEMPLATES";
/// Variable that puts the machines of all tests into performance mode.
pub const PERFORMANCE: &str = "KTSTR_PERFORMANCE";
/// Variable that turns templates off.
pub const COLD: &str = "KTSTR_COLD";
/// Variable with the seconds that a boot may take.
pub const BOOT_TIMEOUT_S: &str = "KTSTR_BOOT_TIMEOUT_S";
/// Variable with the pages that checkpoints keep.
pub const PAGES: &str = "KTSTR_PAGES";
/// Variable with the folder for this run's traces.
pub const RESULTS: &str = "KTSTR_RESULTS";
/// Variable with the folder of the traces once more, where `cargo ktstr test` wants the reasons of tests that fail before they have one.
pub const REASONS: &str = "KTSTR_REASONS";
/// Variable with the program to take for every scheduler that is declared by `binary`.
pub const SCHEDULER: &str = "KTSTR_SCHEDULER";
/// Variable that turns the second runs of tests off whose scheduler died, when it is 0.
pub const AUTO_REPRO: &str = "KTSTR_AUTO_REPRO";
/// Variable with which the variants of tests for the gauntlet are compiled, where it is not 0. The compiler's processes read it.
pub const GAUNTLET: &str = "KTSTR_GAUNTLET";
/// Variable with a folder into which tests write what they are, in place of being run. A test that does so fails.
pub const DESCRIBE: &str = "KTSTR_DESCRIBE";

/// Variable that puts a shell for a person in the place of a test's body.
pub use guest_init::message::SHELL;

/// Variable with the name of the gauntlet's machine whose guest the shell is to be in; without it, the test's own.
pub const SHELL_MACHINE: &str = "KTSTR_SHELL_MACHINE";

/// Variable of the process of a `host_only` body, with its socket. Nobody sets it but this library.
pub const BODY: &str = "KTSTR_HOST_ONLY_BODY";

/// The variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The kernel to boot: a path, a version or its prefix, or `latest`.
    pub kernel: Option<String>,
    /// The kernel's configuration, in place of what is found.
    pub kernel_config: Option<PathBuf>,
    /// The kind of machine to take.
    pub machine: Option<String>,
    /// The KVM machine makes and uses templates.
    pub kvm_templates: bool,
    /// All machines are in performance mode.
    pub performance: bool,
    /// Boot, even when there is a template.
    pub cold: bool,
    /// How long a boot may take, in s of the time in which the host runs the machine; `None`: the default.
    pub boot_timeout_s: Option<String>,
    /// Which pages checkpoints keep, `kernel` or `all`; `None`: as each test says.
    pub pages: Option<String>,
    /// Where this run's traces go.
    pub results: Option<PathBuf>,
    /// Where reasons go, if they are asked for.
    pub reasons: Option<PathBuf>,
    /// The program to take for a scheduler that is declared by `binary`.
    pub scheduler: Option<PathBuf>,
    /// No test is run again because its scheduler died.
    pub no_repro: bool,
    /// Run a shell in the guest in the place of the body.
    pub shell: bool,
    /// The gauntlet's machine for that, by its name.
    pub shell_machine: Option<String>,
    /// Where the descriptions of tests go that are not to be run.
    pub describe: Option<PathBuf>,
}

impl Environment {
    /// Of this process.
    pub fn read() -> Self {
        Self::from_lookup(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_lookup(get: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            kernel: get(KERNEL),
            kernel_config: get(KERNEL_CONFIG).map(PathBuf::from),
            machine: get(MACHINE),
            kvm_templates: get(KVM_TEMPLATES).is_some_and(|value| value != "0"),
            performance: get(PERFORMANCE).is_some_and(|value| value != "0"),
            cold: get(COLD).is_some_and(|value| value != "0"),
            boot_timeout_s: get(BOOT_TIMEOUT_S),
            pages: get(PAGES),
            results: get(RESULTS).map(PathBuf::from),
            reasons: get(REASONS).map(PathBuf::from),
            scheduler: get(SCHEDULER).map(PathBuf::from),
            no_repro: get(AUTO_REPRO).is_some_and(|value| value == "0"),
            shell: get(SHELL).is_some(),
            shell_machine: get(SHELL_MACHINE),
            describe: get(DESCRIBE).map(PathBuf::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cold_is_on_for_anything_but_0() {
        let with = |value: &str| {
            let value = value.to_owned();
            Environment::from_lookup(move |name| (name == COLD).then(|| value.clone())).cold
        };
        assert!(with("1") && with("yes") && !with("0"));
        assert_eq!(Environment::from_lookup(|_| None), Environment::default());
    }
}
