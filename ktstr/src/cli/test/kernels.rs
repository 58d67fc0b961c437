//! The kernels that tests are run on: one pass of the tests for each.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use ktstr_record::machine::{KvmProbe, MachineKind};
use ktstr_record::provision::{KernelRange, KernelSpec, Provisioner};
use ktstr_record::spec::{BackendSpec, Kernel, MachineSpec};

use super::super::out;
use crate::gauntlet::PRESETS;
use crate::host::environment::{self, Environment};
use crate::host::machine;

/// Longest part of a label in the name of a folder.
const FOLDER_CHARS: usize = 80;

/// Which kernels.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct KernelChoice {
    /// The kernel to boot: a bzImage or vmlinux, a kernel package (.deb, .rpm, .pkg.tar.zst), a source tree that was built, a
    /// version or its prefix (7.3, 7), latest, or a range (7.0..7.3: the newest of each series). Given again: all of them,
    /// one after the other.
    #[arg(long, value_name = "SPEC")]
    kernel: Vec<String>,
    /// Build the source trees among the kernels first, unless the cache has a build of the same source.
    #[arg(long, requires = "kernel")]
    build: bool,
    /// The kernel's configuration, which schedulers with __kconfig variables need (default: that of the archive's
    /// package, beside the kernel's file or inside it).
    #[arg(long, value_name = "FILE")]
    kernel_config: Option<PathBuf>,
}

/// One pass of the tests.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    /// What people are told it is: its release, with what was asked for where another kernel has the same.
    pub(super) label: String,
    /// What the tests are told of the kernel, where they are told anything. They run in other folders, so paths are absolute.
    pub(super) spec: Option<OsString>,
    /// Likewise of its configuration.
    pub(super) config: Option<PathBuf>,
    kernel: Kernel,
    backend: BackendSpec,
}

impl Pass {
    /// The name of a folder for its traces: which pass it is, and the begin of its label, without what means something in a path.
    pub(super) fn folder(&self, number: u32) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "+~_-.".contains(c);
        let name: String =
            self.label.chars().take(FOLDER_CHARS).map(|c| if plain(c) { c } else { '_' }).collect();
        format!("{number}-{name}")
    }

    /// The smallest machine with its kernel.
    pub(super) fn machine(&self) -> MachineSpec {
        MachineSpec {
            backend: self.backend.clone(),
            kernel: self.kernel.clone(),
            topology: PRESETS[0].topology,
            memory_mib: PRESETS[0].memory_mib(0),
            kaslr: false,
            kargs: Vec::new(),
            performance: false,
        }
    }

    /// The variables that tell the tests.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        let spec = self.spec.clone().map(|spec| (environment::KERNEL, spec));
        let config = self.config.clone().map(|config| (environment::KERNEL_CONFIG, config.into_os_string()));
        spec.into_iter().chain(config)
    }
}

/// A kernel that was asked for, or chosen out of a range.
#[derive(Debug)]
struct Chosen {
    kernel: Kernel,
    /// To find its configuration by.
    spec: KernelSpec,
    told: Option<OsString>,
}

impl KernelChoice {
    /// Fetch or build what every test needs before the first one starts, where progress is visible; and say what is known
    /// against the kernels. At least one pass.
    ///
    /// # Errors
    /// What is no kernel, or cannot be had.
    pub(super) fn provision(&self, machine: Option<MachineKind>) -> Result<Vec<Pass>> {
        let mut environment = Environment::read();
        environment.machine = machine.map(|kind| kind.to_string()).or(environment.machine);
        let given = env::var(environment::KERNEL).ok().filter(|text| !text.is_empty());
        let asked = if self.kernel.is_empty() { given.into_iter().collect() } else { self.kernel.clone() };
        let config = self.kernel_config.clone();
        let config = config.or_else(|| env::var_os(environment::KERNEL_CONFIG).map(PathBuf::from));
        let config =
            config.filter(|path| !path.as_os_str().is_empty()).as_deref().map(absolute).transpose()?;
        if self.build && !asked.iter().any(|text| Path::new(text).is_dir()) {
            bail!("--build builds source trees, and {} is no folder; leave it out", asked.join(", "));
        }
        // Before anything is fetched for nothing.
        for text in &asked {
            if KernelRange::is_meant(text) {
                KernelRange::parse(text)?;
            } else {
                KernelSpec::parse(text)?;
            }
        }
        let provisioner = Provisioner::open()?;
        // A machine that was asked for and cannot be is said before kernels are fetched for it.
        machine::decide(KvmProbe::cached(provisioner.cache().root()), &environment)?;
        let mut chosen = Vec::new();
        for text in &asked {
            chosen.extend(self.chosen(&provisioner, text)?);
        }
        if asked.is_empty() {
            let spec = KernelSpec::Latest;
            chosen.push(Chosen { kernel: provisioner.kernel(&spec)?, spec, told: None });
        }
        let chosen = without_repeats(chosen);
        if config.is_some() && chosen.len() > 1 {
            bail!("--kernel-config is the configuration of one kernel, and {} were asked for", chosen.len());
        }
        let machine = machine::choose(&provisioner, &environment)?;
        let labels = labels(&chosen);
        let passes = chosen.into_iter().zip(labels).map(|(chosen, label)| {
            say_what_is_known(&provisioner, &chosen, config.as_deref(), &machine)?;
            let (kernel, backend) = (chosen.kernel, machine.backend.clone());
            Ok(Pass { label, spec: chosen.told, config: config.clone(), kernel, backend })
        });
        passes.collect()
    }

    /// The kernels of one `--kernel`.
    fn chosen(&self, provisioner: &Provisioner, text: &str) -> Result<Vec<Chosen>> {
        if KernelRange::is_meant(text) {
            let selection = provisioner.select_kernels(&KernelRange::parse(text)?)?;
            for line in &selection.told {
                out::note(&format!("ktstr: {text}: {line}"));
            }
            let of = |kernel: Kernel| {
                let spec = KernelSpec::parse(&kernel.release)?;
                Ok(Chosen { told: Some(kernel.release.clone().into()), kernel, spec })
            };
            return selection.kernels.into_iter().map(of).collect();
        }
        let spec = KernelSpec::parse(text)?;
        let KernelSpec::Path(path) = &spec else {
            let kernel = provisioner.kernel(&spec)?;
            return Ok(vec![Chosen { kernel, spec, told: Some(text.into()) }]);
        };
        if self.build && path.is_dir() {
            let kernel = provisioner.build_kernel(path)?;
            // The tree may be changed while tests run: they get what was built.
            let built = kernel.bzimage.clone().context("a build without a bzImage")?;
            return Ok(vec![Chosen {
                kernel,
                spec: KernelSpec::Path(built.clone()),
                told: Some(built.into()),
            }]);
        }
        let path = absolute(path)?;
        let spec = KernelSpec::Path(path.clone());
        Ok(vec![Chosen { kernel: provisioner.kernel(&spec)?, spec, told: Some(path.into()) }])
    }
}

/// Each kernel once, by its content.
fn without_repeats(chosen: Vec<Chosen>) -> Vec<Chosen> {
    let mut kept: Vec<Chosen> = Vec::new();
    for one in chosen {
        if let Some(same) = kept.iter().find(|other| other.kernel.id == one.kernel.id) {
            let (asked, other) = (&one.kernel.asked, &same.kernel.asked);
            out::note(&format!("ktstr: --kernel {asked} is the same kernel as {other}, and is run once"));
        } else {
            kept.push(one);
        }
    }
    kept
}

/// A name for each kernel that no other has.
fn labels(chosen: &[Chosen]) -> Vec<String> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for one in chosen {
        *times.entry(&one.kernel.release).or_default() += 1;
    }
    let label = |one: &Chosen| match times.get(one.kernel.release.as_str()) {
        Some(2..) => format!("{} ({})", one.kernel.release, one.kernel.asked),
        _ => one.kernel.release.clone(),
    };
    chosen.iter().map(label).collect()
}

/// Say which kernel is run, and what is known against it.
fn say_what_is_known(
    provisioner: &Provisioner,
    chosen: &Chosen,
    config: Option<&Path>,
    machine: &machine::Chosen,
) -> Result<()> {
    let Chosen { kernel, spec, .. } = chosen;
    let release = &kernel.release;
    let config = provisioner.kernel_config(spec, kernel, config)?;
    out::note(&format!("ktstr: kernel {release}, {}", machine.describe()));
    if config.is_none() && kernel.has_sched_ext {
        out::note(&format!("ktstr: {}", no_config(release)));
    }
    for fault in provisioner.check_kernel(kernel, config.as_ref())?.faults() {
        out::note(&format!("ktstr: kernel {release}: {fault}"));
    }
    Ok(())
}

/// That there is no configuration, for whom it matters and how to give one.
fn no_config(release: &str) -> String {
    format!(
        "no configuration of kernel {release} was found: a scheduler with `__kconfig` variables will not load. \
         --kernel-config FILE gives one"
    )
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("could not resolve {}", path.display()))
}

#[cfg(test)]
mod tests {
    use ktstr_record::spec::KvmSpec;

    use super::*;

    fn chosen(release: &str, asked: &str, id: &str) -> Chosen {
        let kernel = Kernel {
            asked: asked.to_owned(),
            release: release.to_owned(),
            vmlinux: "/v".into(),
            bzimage: None,
            id: id.to_owned(),
            has_sched_ext: true,
        };
        Chosen { kernel, spec: KernelSpec::Latest, told: None }
    }

    fn choice(kernels: &[&str]) -> KernelChoice {
        let kernel = kernels.iter().map(|&kernel| kernel.to_owned()).collect();
        KernelChoice { kernel, ..KernelChoice::default() }
    }

    #[test]
    fn the_same_kernel_is_run_once_and_kernels_of_one_release_are_told_apart() {
        let all = vec![
            chosen("7.3.4", "7.3", "a"),
            chosen("7.3.4", "latest", "a"),
            chosen("7.3.4", "/linux/bzImage", "b"),
            chosen("7.2.13", "7.2", "c"),
        ];
        let kept = without_repeats(all);
        assert_eq!(labels(&kept), ["7.3.4 (7.3)", "7.3.4 (/linux/bzImage)", "7.2.13"]);
    }

    #[test]
    fn a_label_is_one_folder() {
        let backend = BackendSpec::Kvm(KvmSpec::default());
        let pass = |label: &str| Pass {
            label: label.to_owned(),
            spec: Some("7.3".into()),
            config: None,
            kernel: chosen("7.3.4", "7.3", "a").kernel,
            backend: backend.clone(),
        };
        assert_eq!(pass("7.3.4+deb13 (/linux/../b)").folder(2), "2-7.3.4+deb13___linux_.._b_");
        assert_eq!(pass("../x").folder(1), "1-.._x");
        assert!(pass(&"x".repeat(5000)).folder(1).len() < 100);
        assert_eq!(pass("x").variables().collect::<Vec<_>>(), [(environment::KERNEL, OsString::from("7.3"))]);
    }

    #[test]
    fn what_is_wrong_is_told_before_anything_is_fetched() {
        let error = |choice: KernelChoice| choice.provision(None).expect_err("wrong").to_string();
        assert!(error(choice(&["7.3", "7.3..7.0"])).contains("the wrong way round"));
        assert!(error(choice(&["7.3", "v7.3"])).contains("\"v7.3\""));
        let build = KernelChoice { build: true, ..choice(&["7.3"]) };
        assert!(error(build).contains("7.3 is no folder"));
    }

    #[test]
    fn a_machine_that_cannot_be_is_told_before_a_kernel_is_looked_for() {
        let cache = Provisioner::open().expect("a cache");
        let executes = KvmProbe::cached(cache.cache().root()).executes();
        let missing = choice(&["/nonexistent/bzImage"]);
        let error = format!("{:#}", missing.provision(Some(MachineKind::Kvm)).expect_err("two faults"));
        assert_eq!(error.contains("the KVM machine cannot be used"), !executes, "{error}");
        assert_eq!(error.contains("/nonexistent/bzImage"), executes, "{error}");
    }
}
