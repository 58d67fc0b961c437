//! Newtypes for numbers that must not be mixed.

use std::fmt;

/// A guest-physical address, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestPhys(pub u64);

/// A kernel virtual address of the guest, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
