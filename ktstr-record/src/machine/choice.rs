//! Which kind of machine runs tests on this host, and why.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::error::StartError;
use super::kvm::KvmProbe;

/// A kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineKind {
    /// The emulated one.
    Qemu,
    /// The one of KVM.
    Kvm,
}

impl MachineKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Qemu, Self::Kvm];

    /// As options and the manifest's `machine.kind` have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Kvm => "kvm",
        }
    }
}

impl fmt::Display for MachineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MachineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no kind of machine; it is one of qemu, kvm"))
    }
}

/// Which machine runs tests on this host, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachineChoice {
    /// Its kind.
    pub machine: MachineKind,
    /// The reason, as the manifest has it in `machine.why`.
    pub why: String,
    /// What was found out of KVM.
    pub probe: KvmProbe,
}

impl MachineChoice {
    /// The choice that follows from `probe`, or from what was `asked` for.
    ///
    /// # Errors
    /// [`StartError::Kvm`] when KVM was asked for and does not execute guests: it is never taken, nor left, in silence.
    pub fn of(probe: KvmProbe, asked: Option<MachineKind>) -> Result<Self, StartError> {
        let executes = probe.executes();
        let (machine, why) = match asked {
            Some(MachineKind::Kvm) if !executes => return Err(StartError::Kvm { why: probe.to_string() }),
            Some(machine) => (machine, format!("{machine} was asked for")),
            None if executes => (MachineKind::Kvm, probe.to_string()),
            None => (MachineKind::Qemu, format!("KVM cannot be used, which leaves the emulator: {probe}")),
        };
        Ok(Self { machine, why, probe })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXECUTES: KvmProbe = KvmProbe::Executes { ns_per_instruction: 1.0 };

    fn emulates() -> KvmProbe {
        KvmProbe::Emulates { what: "at cmpxchg16b".into(), module: None }
    }

    #[test]
    fn kvm_is_never_chosen_because_its_device_opens() {
        let unfit = [
            KvmProbe::NoDevice,
            KvmProbe::TookTooLong,
            emulates(),
            KvmProbe::TooSlow { ns_per_instruction: 500.0 },
            KvmProbe::Lacks { what: "x".into() },
            KvmProbe::PermissionDenied { gid: 1, group_may: true },
        ];
        for probe in unfit {
            let chosen = MachineChoice::of(probe.clone(), None).unwrap();
            assert_eq!(chosen.machine, MachineKind::Qemu, "{probe:?}");
            assert!(chosen.why.contains(&probe.to_string()), "{}", chosen.why);
            let forced = MachineChoice::of(probe.clone(), Some(MachineKind::Kvm)).unwrap_err().to_string();
            assert!(forced.contains(&probe.to_string()), "{forced}");
        }
        assert_eq!(MachineChoice::of(EXECUTES, None).unwrap().machine, MachineKind::Kvm);
    }

    #[test]
    fn what_was_asked_for_is_taken() {
        for probe in [EXECUTES, emulates()] {
            let chosen = MachineChoice::of(probe, Some(MachineKind::Qemu)).unwrap();
            assert_eq!((chosen.machine, chosen.why.as_str()), (MachineKind::Qemu, "qemu was asked for"));
        }
        assert_eq!(MachineChoice::of(EXECUTES, Some(MachineKind::Kvm)).unwrap().machine, MachineKind::Kvm);
        assert_eq!("kvm".parse(), Ok(MachineKind::Kvm));
        assert!("KVM".parse::<MachineKind>().unwrap_err().contains("one of qemu, kvm"));
    }
}
