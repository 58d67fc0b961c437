//! What can be said of a kernel before it is booted: sched_ext, BTF and configuration.

use std::fs::File;

use object::read::ReadCache;
use serde::Serialize;

use super::super::error::{Error, Result};
use super::kfuncs;
use super::needs::{self, Need, OptionCheck};
use crate::spec::{Kernel, KernelConfig};

/// What was found out about a kernel that was not booted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelCheck {
    /// `uname -r`.
    pub release: String,
    /// Whether it has sched_ext.
    pub has_sched_ext: bool,
    /// Kfuncs of sched_ext that its BTF shows with an argument which schedulers do not give: those that call one do not load.
    pub hidden_arguments: Vec<String>,
    /// Where its configuration came from; `None`: none was found.
    pub config: Option<String>,
    /// The configuration options that tests need, each with whether it is set; empty without a configuration.
    pub options: Vec<OptionCheck>,
}

impl KernelCheck {
    /// What keeps schedulers or tests from running, one sentence each. Empty for a kernel that is fit.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let has_option = |option: &str| self.options.iter().any(|check| check.option == option);
        if !self.has_sched_ext && !has_option("CONFIG_SCHED_CLASS_EXT") {
            faults.push("it is built without sched_ext (CONFIG_SCHED_CLASS_EXT)".to_owned());
        }
        faults.extend(hidden(&self.hidden_arguments));
        let lacks = self.lacks().filter(|check| check.need != Need::Feature);
        faults.extend(lacks.map(|check| {
            let lost = if check.need == Need::Test { "tests need" } else { "schedulers need" };
            format!("it lacks {}, which {lost}: {}", check.option, check.what)
        }));
        faults
    }

    /// The options that are not built in.
    pub fn lacks(&self) -> impl Iterator<Item = &OptionCheck> {
        self.options.iter().filter(|check| !check.is_met())
    }
}

/// That schedulers do not load, and for which kfuncs.
fn hidden(kfuncs: &[String]) -> Option<String> {
    const SHOWN: usize = 4;
    if kfuncs.is_empty() {
        return None;
    }
    let mut names = kfuncs.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if kfuncs.len() > SHOWN {
        names.push_str(&format!(" and {} more", kfuncs.len() - SHOWN));
    }
    Some(format!(
        "its BTF shows a hidden argument of {} of sched_ext's kfuncs ({names}): a scheduler that calls one of them does not compile \
         (`call to undeclared function`), as the kernel's header for BPF leaves such functions out, or does not load \
         (`func_proto incompatible with vmlinux`). The kernel's build left it there; take another version: `ktstr kernel list` \
         shows which are sound",
        kfuncs.len()
    ))
}

/// Looks at `kernel`, whose configuration is `config`.
pub(in super::super) fn check(kernel: &Kernel, config: Option<&KernelConfig>) -> Result<KernelCheck> {
    let path = &kernel.vmlinux;
    let file = File::open(path).map_err(|source| Error::KernelFile { path: path.clone(), source })?;
    let hidden_arguments = kfuncs::with_hidden_argument(&ReadCache::new(file))
        .map_err(|source| Error::NotAKernel { path: path.clone(), source })?;
    Ok(KernelCheck {
        release: kernel.release.clone(),
        has_sched_ext: kernel.has_sched_ext,
        hidden_arguments,
        config: config.map(|config| config.origin.clone()),
        options: config.map(|config| needs::check(&config.text)).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &str, hidden: &[&str]) -> KernelCheck {
        KernelCheck {
            release: "7.1.13".to_owned(),
            has_sched_ext: true,
            hidden_arguments: hidden.iter().map(|&name| name.to_owned()).collect(),
            config: Some("a file".to_owned()),
            options: needs::check(config.as_bytes()),
        }
    }

    #[test]
    fn a_kernel_that_has_all_is_fit() {
        assert_eq!(of(&needs::fragment(b""), &[]).faults(), [""; 0]);
    }

    #[test]
    fn each_fault_is_named_with_what_it_costs() {
        let config = needs::fragment(b"").replace("CONFIG_BPF_JIT=y", "").replace("CONFIG_NUMA=y", "");
        let check = of(&config, &["a", "b", "c", "d", "e", "f"]);
        let faults = check.faults();
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("6 of sched_ext's kfuncs (a, b, c, d and 2 more)"), "{faults:?}");
        assert!(faults[1].contains("CONFIG_BPF_JIT, which schedulers need"), "{faults:?}");
        let lacks: Vec<_> = check.lacks().map(|check| check.option).collect();
        assert_eq!(lacks, ["CONFIG_BPF_JIT", "CONFIG_NUMA"], "what one feature needs is no fault, and told");
    }

    #[test]
    fn without_a_configuration_sched_ext_is_known_by_its_types() {
        let check = KernelCheck { has_sched_ext: false, config: None, options: Vec::new(), ..of("", &[]) };
        assert_eq!(check.faults(), ["it is built without sched_ext (CONFIG_SCHED_CLASS_EXT)"]);
    }
}
