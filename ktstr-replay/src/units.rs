//! Newtypes for numbers that must not be mixed.

use std::fmt;
use std::time::Duration;

/// A duration in ns, as records have it; more than 584 years are that many.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration in us, likewise.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A duration in ms, likewise.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A guest-physical address, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestPhys(pub u64);

/// A kernel virtual address of the guest, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVirt(pub u64);

/// A number that records and JSON have as it is.
macro_rules! recorded {
    ($(#[$doc:meta])* $name:ident, $number:ty) => {
        $(#[$doc])*
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, serde::Serialize, serde::Deserialize)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[serde(transparent)]
        pub struct $name(pub $number);
    };
}

recorded! {
    /// A CPU's number in the guest.
    Cpu, u32
}
recorded! {
    /// Guest `CLOCK_MONOTONIC`, in ns.
    GuestNs, u64
}
recorded! {
    /// Host time since the recording began, in ns.
    HostNs, u64
}

macro_rules! time {
    ($($name:ident)*) => {$(
        impl $name {
            /// From `origin` to it, in ns; negative before it.
            #[must_use]
            pub fn since(self, origin: Self) -> i64 {
                i64::try_from(i128::from(self.0) - i128::from(origin.0))
                    .unwrap_or(if self < origin { i64::MIN } else { i64::MAX })
            }

            /// `ns` later, or the last time there is.
            #[must_use]
            pub fn saturating_add(self, ns: u64) -> Self {
                Self(self.0.saturating_add(ns))
            }

            /// How long after `earlier` it is, in ns; 0 if it is not.
            #[must_use]
            pub fn saturating_since(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }
        }
    )*};
}
time! { GuestNs HostNs }

/// CPUs, ascending. Its text is the kernel's list format: `0-3,7`; `none` for no CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(Vec<Cpu>);

impl FromIterator<Cpu> for CpuList {
    fn from_iter<T: IntoIterator<Item = Cpu>>(cpus: T) -> Self {
        let mut cpus: Vec<Cpu> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        Self(cpus)
    }
}

impl CpuList {
    /// The CPUs.
    pub fn iter(&self) -> impl Iterator<Item = Cpu> {
        self.0.iter().copied()
    }

    /// Whether `cpu` is one of them.
    #[must_use]
    pub fn contains(&self, cpu: Cpu) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }

    /// How many they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let follows = |a: &Cpu, b: &Cpu| a.0.checked_add(1) == Some(b.0);
        let runs: Vec<String> = self
            .0
            .chunk_by(follows)
            .filter_map(|run| match run {
                [] => None,
                [one] => Some(one.to_string()),
                [first, .., last] => Some(format!("{first}-{last}")),
            })
            .collect();
        f.pad(if runs.is_empty() { "none".to_owned() } else { runs.join(",") }.as_str())
    }
}

impl serde::Serialize for CpuList {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for GuestPhys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gpa {:#x}", self.0)
    }
}

impl fmt::Display for KernelVirt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_recorded_as_the_number_they_are() {
        let time = GuestNs(7);
        assert_eq!(serde_json::to_string(&(time, Cpu(2))).unwrap(), "[7,2]");
        let archived = rkyv::to_bytes::<rkyv::rancor::Error>(&time).unwrap();
        assert_eq!(archived.as_slice(), 7u64.to_le_bytes());
    }

    #[test]
    fn cpus_are_listed_as_the_kernel_does() {
        let list = |cpus: &[u32]| cpus.iter().copied().map(Cpu).collect::<CpuList>();
        assert_eq!(list(&[7, 1, 0, 2, 3, 9, 10]).to_string(), "0-3,7,9-10");
        assert_eq!(list(&[]).to_string(), "none");
        assert_eq!(serde_json::to_string(&list(&[1])).unwrap(), "\"1\"");
        assert!(list(&[4, 2]).contains(Cpu(2)) && !list(&[4, 2]).contains(Cpu(3)));
    }

    #[test]
    fn differences_have_a_sign_and_do_not_overflow() {
        assert_eq!((GuestNs(5).since(GuestNs(7)), GuestNs(7).since(GuestNs(5))), (-2, 2));
        assert_eq!(GuestNs(0).since(GuestNs(u64::MAX)), i64::MIN);
        assert_eq!(GuestNs(u64::MAX).since(GuestNs(0)), i64::MAX);
        assert_eq!(
            (HostNs(5).saturating_since(HostNs(7)), HostNs(u64::MAX).saturating_add(1)),
            (0, HostNs(u64::MAX))
        );
        assert_eq!(format!("CPU {:>3}", Cpu(2)), "CPU   2");
    }
}
