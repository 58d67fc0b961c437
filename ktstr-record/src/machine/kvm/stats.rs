//! What KVM counts of a vCPU.
//!
//! Source: `Documentation/virt/kvm/api.rst` of Linux, `KVM_GET_STATS_FD`.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::FileExt;

use kvm_bindings::KVMIO;
use vmm_sys_util::ioctl::ioctl;
use vmm_sys_util::ioctl_io_nr;

use super::error::{failed, refused};
use super::vcpu::Vcpu;
use crate::machine::error::MachineError;

ioctl_io_nr!(KVM_GET_STATS_FD, KVMIO, 0xce);

/// Bytes of the header, and of a descriptor in front of its name.
const HEADER_BYTES: usize = 24;
const DESCRIPTOR_BYTES: u64 = 16;
/// Far more than KVM has.
const MOST: u32 = 1024;
const LONGEST_NAME: u32 = 256;

/// Where KVM counts for one vCPU.
#[derive(Debug)]
pub(super) struct Stats(File);

impl Stats {
    /// Those of `vcpu`.
    pub(super) fn of(vcpu: &mut Vcpu) -> Result<RawFd, MachineError> {
        // SAFETY: the descriptor is that of a vCPU, and the call has no argument.
        let fd = unsafe { ioctl(&vcpu.fd().as_raw_fd(), KVM_GET_STATS_FD()) };
        if fd < 0 { Err(refused("tell what it counts")(kvm_ioctls::Error::last())) } else { Ok(fd) }
    }

    /// Take over what [`of`](Self::of) gave.
    ///
    /// # Safety
    /// Nobody else has it.
    pub(super) unsafe fn take(fd: RawFd) -> Self {
        // SAFETY: as promised.
        Self(unsafe { File::from_raw_fd(fd) })
    }

    /// The count of this name; `None` where KVM has none.
    pub(super) fn get(&self, name: &str) -> Result<Option<u64>, MachineError> {
        let read = |at: u64, len: usize| {
            let mut bytes = vec![0; len];
            let read = self.0.read_exact_at(&mut bytes, at);
            read.map(|()| bytes).map_err(failed("read what KVM counts"))
        };
        let word = |bytes: &[u8], at: usize| {
            bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
        };
        let header = read(0, HEADER_BYTES)?;
        let (name_bytes, count) = (word(&header, 4).min(LONGEST_NAME), word(&header, 8).min(MOST));
        let (descriptors, data) = (u64::from(word(&header, 16)), u64::from(word(&header, 20)));
        for number in 0..u64::from(count) {
            let each = DESCRIPTOR_BYTES + u64::from(name_bytes);
            let descriptor = read(descriptors + number * each, each as usize)?;
            let found = descriptor[DESCRIPTOR_BYTES as usize..].split(|byte| *byte == 0).next();
            if found == Some(name.as_bytes()) {
                let value = read(data + u64::from(word(&descriptor, 8)), 8)?;
                return Ok(value.try_into().ok().map(u64::from_le_bytes));
            }
        }
        Ok(None)
    }
}
