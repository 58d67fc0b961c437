//! Which machine runs tests.

use anyhow::{Context, Result};
use ktstr_record::machine::{KvmProbe, MachineChoice, MachineKind};
use ktstr_record::provision::Provisioner;
use ktstr_record::spec::{BackendSpec, KvmBoots, KvmSpec};

use super::environment::{Environment, MACHINE};

/// What runs tests, and why it is that.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// It, with what it needs.
    pub backend: BackendSpec,
    /// The reason, for the manifest.
    pub why: String,
}

impl Chosen {
    /// For people: what it is.
    pub fn describe(&self) -> String {
        match &self.backend {
            BackendSpec::Qemu(emulator) => format!("QEMU {} ({})", emulator.version, emulator.origin),
            BackendSpec::Kvm(_) => "KVM".to_owned(),
        }
    }
}

/// The kind of machine that was asked for, if one was.
///
/// # Errors
/// A word that is none.
fn asked(environment: &Environment) -> Result<Option<MachineKind>> {
    let parse = |word: &String| word.parse::<MachineKind>().map_err(anyhow::Error::msg);
    environment.machine.as_ref().map(parse).transpose().with_context(|| MACHINE)
}

/// Which machine runs tests on this host: what was asked for, else what `probe`, of its KVM, says. Nothing is fetched.
///
/// # Errors
/// A word that is no machine was asked for, or KVM, which runs no kernels here.
pub fn decide(probe: KvmProbe, environment: &Environment) -> Result<MachineChoice> {
    Ok(MachineChoice::of(probe, asked(environment)?)?)
}

/// What runs tests on this host: what was asked for, else what the probe of KVM says. An emulator is fetched only if it is
/// to run them.
///
/// # Errors
/// KVM was asked for and runs no kernels here; there is no emulator, and none can be fetched.
pub fn choose(provisioner: &Provisioner, environment: &Environment) -> Result<Chosen> {
    let probe = KvmProbe::cached(provisioner.cache().root());
    let MachineChoice { machine, why, .. } = decide(probe, environment)?;
    let backend = match machine {
        MachineKind::Qemu => provisioner.emulator()?.into(),
        MachineKind::Kvm => {
            BackendSpec::Kvm(KvmSpec { boots: KvmBoots::Kernel, templates: environment.kvm_templates })
        }
    };
    Ok(Chosen { backend, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_machine_is_refused_by_its_variable() {
        let with = |word: &str| Environment { machine: Some(word.to_owned()), ..Environment::default() };
        assert_eq!(asked(&with("kvm")).unwrap(), Some(MachineKind::Kvm));
        assert_eq!(asked(&Environment::default()).unwrap(), None);
        let error = format!("{:#}", asked(&with("xen")).unwrap_err());
        assert!(error.starts_with("KTSTR_MACHINE: `xen`") && error.contains("qemu, kvm"), "{error}");
    }
}
