//! What ktstr reads out of a guest's memory is what the guest itself says: /proc, cgroupfs, /sys/kernel/sched_ext, /dev/kmsg,
//! and the kernel's own dump of a stalled scheduler.

mod dump;
mod lacking;
mod said;
mod same;
mod vmcore;
