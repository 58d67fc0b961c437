//! What a vCPU's thread may ask of the kernel. It handles what a guest writes to devices, and guests are not trusted.
//!
//! All else fails with EPERM: whoever takes the thread over opens no file, starts no program and connects to nobody.

use std::collections::BTreeMap;
use std::io;

use kvm_bindings::KVMIO;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Calls that are allowed with any arguments: memory, waiting, writing to what is open (a console's interrupt, a panic's text),
/// ending. Signals (`tgkill`) may go to this process, and ioctls to KVM.
const ALLOWED: [i64; 24] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];
/// Where an ioctl's number has the kind of device that it is for.
const IOCTL_TYPE: u64 = 0xff << 8;

/// The filter, as the kernel takes it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn filter() -> io::Result<BpfProgram> {
    let of_kvm = SeccompCmpOp::MaskedEq(IOCTL_TYPE);
    let only = |argument, operation, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(io::Error::other)
    };
    let ioctl = only(1, of_kvm, u64::from(KVMIO) << 8)?;
    // To kick other vCPUs.
    let signal = only(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.into_iter().map(|call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_ioctl, vec![ioctl]);
    rules.insert(libc::SYS_tgkill, vec![signal]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, TargetArch::x86_64);
    filter.and_then(BpfProgram::try_from).map_err(io::Error::other)
}

/// Confine the thread that calls this, for good.
///
/// # Errors
/// When the kernel refuses the filter.
pub(super) fn this_thread(filter: &BpfProgram) -> io::Result<()> {
    apply_filter(filter).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;
    use std::thread;

    use super::{filter, this_thread};

    #[test]
    fn a_confined_thread_works_and_reaches_nothing() {
        let filter = filter().unwrap();
        thread::spawn(move || {
            this_thread(&filter).unwrap();
            let refused = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            refused(File::open("/dev/null").unwrap_err());
            refused(Command::new("/bin/true").spawn().unwrap_err());
            refused(std::net::TcpListener::bind("127.0.0.1:0").unwrap_err());
            // An ioctl of a terminal, and one of KVM, which is only refused by what it is given to.
            let ioctl = |request| {
                // SAFETY: neither has an argument, and standard input is no device that does anything with it.
                let done = unsafe { libc::ioctl(0, request) };
                (done, std::io::Error::last_os_error().raw_os_error())
            };
            assert_eq!(ioctl(libc::TIOCEXCL), (-1, Some(libc::EPERM)));
            assert_ne!(ioctl(0xae00).1, Some(libc::EPERM));
            // A signal to this thread, and one to a process that cannot be: number 0 sends nothing.
            let signal = |process: i64, thread: i64| {
                // SAFETY: it takes three numbers and touches no memory.
                let done = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0_i64) };
                (done, std::io::Error::last_os_error().raw_os_error())
            };
            // SAFETY: it has no preconditions.
            let thread = unsafe { libc::gettid() };
            assert_eq!(signal(std::process::id().into(), thread.into()).0, 0);
            assert_eq!(signal(i32::MAX.into(), i32::MAX.into()), (-1, Some(libc::EPERM)));
            // Memory, large and small.
            assert_eq!(vec![1_u8; 64 << 20].iter().map(|byte| u64::from(*byte)).sum::<u64>(), 64 << 20);
        })
        .join()
        .unwrap();
        File::open("/dev/null").unwrap();
    }
}
