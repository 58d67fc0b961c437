//! The manifest and the kernel's configuration: numbers and the authors' names stay.

use regex_lite::Regex;

use super::{REDACTED, Redactor, hide};
use crate::trace::record::Manifest;
use crate::trace::record::manifest::{
    KernelInfo, MachineInfo, PerformancePart, ReproAttempt, ReproInfo, SchedulerInfo, StartInfo,
};

impl Redactor {
    /// What the manifest has of secrets and of names.
    pub(super) fn know_manifest(&mut self, manifest: &Manifest) {
        self.know_argument(&manifest.kernel.cmdline);
        self.know_name(&manifest.kernel.release);
        if let Some(scheduler) = &manifest.scheduler {
            scheduler.args.iter().for_each(|arg| self.know_argument(arg));
            self.know_name(&scheduler.name);
            self.know_name(&scheduler.binary);
        }
    }

    /// The manifest without arguments, and without where things came from on the host.
    pub(in crate::slim) fn manifest(&self, manifest: Manifest) -> Manifest {
        // What the test's author wrote, `test`, is kept whole.
        let Manifest { ktstr_version, started_at, test, scheduler, kernel, machine, taints, skipped, repro } =
            manifest;
        let scheduler = scheduler.map(|scheduler| {
            let SchedulerInfo { name, binary, args, xxh3, enable_timeout_ms } = scheduler;
            let args = if args.is_empty() { args } else { vec![REDACTED.to_owned()] };
            SchedulerInfo { name, binary, args, xxh3, enable_timeout_ms }
        });
        let KernelInfo { release, asked, xxh3, cmdline, config } = kernel;
        let asked = if is_version(&asked) { asked } else { hide(asked) };
        let kernel = KernelInfo { release, asked, xxh3, cmdline: hide(cmdline), config: config.map(hide) };
        let MachineInfo { kind, why, version, topology, cpus, memory_mib, host_cpus, start, performance } =
            machine;
        let start = start.map(|start| {
            let StartInfo { how, template_until_ns, waited_ms } = start;
            let known = [StartInfo::BOOTED, StartInfo::RESTORED, StartInfo::ATTACHED].contains(&how.as_str());
            StartInfo { how: if known { how } else { hide(how) }, template_until_ns, waited_ms }
        });
        let (why, version) = (hide(why), program_version(version));
        let performance = performance.into_iter().map(|part| {
            let PerformancePart { what, in_force, detail } = part;
            let known = PerformancePart::ALL.contains(&what.as_str());
            PerformancePart { what: if known { what } else { hide(what) }, in_force, detail: hide(detail) }
        });
        let performance = performance.collect();
        let machine =
            MachineInfo { kind, why, version, topology, cpus, memory_mib, host_cpus, start, performance };
        // Those of this project are plain words.
        let taints = taints.into_iter().map(|taint| if is_plain_words(&taint) { taint } else { hide(taint) });
        let taints = taints.collect();
        let skipped = skipped.map(hide);
        let repro = repro.map(|repro| {
            // Targets are names of functions and variables, as those of a test's own watches.
            let ReproInfo { attempts, targets } = repro;
            let attempts = attempts.into_iter().map(|attempt| {
                let ReproAttempt { seed, reproduced, ended, took_ms } = attempt;
                // The scheduler's message may have arguments in it.
                ReproAttempt { seed, reproduced, ended: hide(ended), took_ms }
            });
            ReproInfo { attempts: attempts.collect(), targets }
        });
        Manifest { ktstr_version, started_at, test, scheduler, kernel, machine, taints, skipped, repro }
    }
}

/// A version or its prefix, as a kernel of the archive is asked for; not a path.
fn is_version(asked: &str) -> bool {
    asked == "latest"
        || (!asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

fn is_plain_words(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b" :,-".contains(&byte))
}

/// The version alone: what follows may be the path of a program that the user gave.
fn program_version(version: String) -> String {
    let found = Regex::new(r"^QEMU [0-9.]+( \(bundle\))?").ok();
    match found.and_then(|pattern| pattern.find(&version).map(|found| found.as_str().to_owned())) {
        Some(known) => known,
        None => hide(version),
    }
}

/// A kernel's configuration with its switches and numbers: texts may be paths, and names of whoever built it.
pub(super) fn config_without_texts(config: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(config);
    let is_switch = |value: &str| match value {
        "y" | "m" | "n" => true,
        number => {
            let digits = number.strip_prefix("0x").unwrap_or(number).trim_start_matches('-');
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
    };
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let keep = |line: &&str| match line.strip_prefix("# CONFIG_") {
        Some(unset) => unset.strip_suffix(" is not set").is_some_and(is_name),
        None => line.split_once('=').is_some_and(|(name, value)| is_name(name) && is_switch(value)),
    };
    text.lines().filter(keep).flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_keeps_switches_and_numbers_alone() {
        let config = "# Linux/x86 7.3.4\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_LOCALVERSION=\"-fritz\"\n\
                      CONFIG_HZ=250\nCONFIG_AT=0x1000\nfritz=y fritz\n# CONFIG_C is not set by fritz\n";
        let kept = config_without_texts(config.as_bytes());
        let expected = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_HZ=250\nCONFIG_AT=0x1000\n";
        assert_eq!(String::from_utf8(kept).unwrap(), expected);
    }

    #[test]
    fn an_emulator_keeps_its_version_and_not_its_path() {
        let version = |text: &str| program_version(text.to_owned());
        assert_eq!(version("QEMU 10.0.13 (bundle)"), "QEMU 10.0.13 (bundle)");
        assert_eq!(version("QEMU 10.0.13 (/home/fritz/qemu)"), "QEMU 10.0.13");
        assert_eq!(version("fritz"), REDACTED);
        assert_eq!(version(""), "");
        assert!(is_version("7.3") && is_version("latest") && !is_version("bzImage-fritz") && !is_version(""));
    }
}
