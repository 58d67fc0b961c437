//! PID 1 of the machine's own tests: sets up the channel's header as guest-init does, then obeys single words.
//!
//! Compiled by `tests/machine/main.rs` with plain `rustc`, static, without crates: libc is declared by hand.
//!
//! ```text
//! 0x200 order   u64  written by the host: RING, PANIC, POWER_OFF, RESTART, TOUCH, CALL, TRAP, KPROBE, PATCH
//! 0x208 done    u64  orders obeyed so far
//! 0x210 ticks   u64  turns of the loop (1 ms each)
//! 0x218 cpus    u64  CPUs online
//! 0x220 boot    u64  random number drawn at boot: equal only for machines that come from one boot
//! 0x228 result  u64  what CALL, TRAP, KPROBE and PATCH came to
//! ```

use std::ffi::{c_char, c_int, c_long, c_ulong, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

unsafe extern "C" {
    fn mknod(path: *const c_char, mode: u32, dev: c_ulong) -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn mmap(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, off: c_long) -> *mut c_void;
    fn reboot(how: c_int) -> c_int;
    fn mount(src: *const c_char, at: *const c_char, kind: *const c_char, flags: c_ulong, data: *const c_void)
    -> c_int;
    fn getsid(pid: c_int) -> c_int;
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn getrandom(to: *mut c_void, len: usize, flags: u32) -> isize;
    fn sched_getcpu() -> c_int;
    fn sched_setaffinity(pid: c_int, len: usize, mask: *const u64) -> c_int;
}

const RING: u64 = 1;
const PANIC: u64 = 2;
const POWER_OFF: u64 = 3;
const RESTART: u64 = 4;
const TOUCH: u64 = 5;
/// A system call that nothing else makes.
const CALL: u64 = 6;
/// Breakpoints of this program's own; the result is how many signals came of them.
const TRAP: u64 = 7;
/// Make the kernel patch its scheduler's code again and again, while all CPUs are in it; the result is how often.
const PATCH: u64 = 8;
/// Call what CALL calls, with a kprobe in it; the result is how often it was hit.
const KPROBE: u64 = 9;

const TRAPS: u64 = 3;
const PATCHES: u64 = 40;
const SIGTRAP: c_int = 5;

static TRAPPED: AtomicU64 = AtomicU64::new(0);

extern "C" fn trapped(_signal: c_int) {
    TRAPPED.fetch_add(1, Relaxed);
}

/// Executes `int3`; each is a signal.
fn trap() -> u64 {
    // SAFETY: the handler only adds to an atomic.
    unsafe { signal(SIGTRAP, trapped) };
    for _ in 0..TRAPS {
        // SAFETY: the handler returns to the instruction after it.
        unsafe { std::arch::asm!("int3") };
    }
    TRAPPED.load(Relaxed)
}

/// A kprobe past the function's first instructions, where the kernel has another means, and never made a jump.
fn kprobe() -> u64 {
    let put = |file: &str, text: &str| std::fs::write(file, text).unwrap();
    // SAFETY: constant, NUL-terminated strings.
    unsafe { mount(c"tracefs".as_ptr(), c"/trace".as_ptr(), c"tracefs".as_ptr(), 0, std::ptr::null()) };
    put("/proc/sys/debug/kprobes-optimization", "0");
    put("/trace/kprobe_events", "p:probe __x64_sys_getsid+9");
    put("/trace/events/kprobes/probe/enable", "1");
    for _ in 0..TRAPS {
        // SAFETY: no memory is involved.
        unsafe { getsid(0) };
    }
    put("/trace/events/kprobes/probe/enable", "0");
    let profile = std::fs::read_to_string("/trace/kprobe_profile").unwrap();
    profile.split_whitespace().nth(1).map_or(0, |hits| hits.parse().unwrap())
}

/// Switches a static key that enqueueing, dequeueing and waking ask.
fn patch() -> u64 {
    static OVER: AtomicBool = AtomicBool::new(false);
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    let busy: Vec<_> = (0..cpus)
        .map(|_| {
            std::thread::spawn(|| {
                while !OVER.load(Relaxed) {
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    let switched = |i: &u64| std::fs::write("/proc/sys/kernel/sched_schedstats", (i & 1).to_string()).is_ok();
    let patches = (1..=PATCHES).filter(switched).count() as u64;
    OVER.store(true, Relaxed);
    busy.into_iter().for_each(|thread| thread.join().unwrap());
    patches
}

/// Keep this thread on the CPU that it is on, or let it go anywhere again.
fn stay(here: bool) {
    // SAFETY: no memory is involved.
    let mask = if here { 1 << unsafe { sched_getcpu() } } else { u64::MAX };
    // SAFETY: eight bytes that live as long as the call.
    assert_eq!(unsafe { sched_setaffinity(0, size_of_val(&mask), &raw const mask) }, 0);
}

const CHANNEL_BYTES: usize = 8 << 20;
const DOORBELL_PAGE: usize = 0x6b74_7000_0000;

fn main() {
    // SAFETY: plain system calls on constant, NUL-terminated strings.
    let (memory, doorbell) = unsafe {
        std::fs::create_dir_all("/proc").unwrap();
        std::fs::create_dir_all("/trace").unwrap();
        assert_eq!(mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, std::ptr::null()), 0);
        mknod(c"/dev/mem".as_ptr(), 0o020_600, 0x101);
        let fd = open(c"/dev/mem".as_ptr(), 2);
        let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap();
        let base = cmdline.split_whitespace().find_map(|w| w.strip_prefix("ktstr.channel=0x")).unwrap();
        let base = c_long::from_str_radix(base, 16).unwrap();
        let channel = mmap(std::ptr::null_mut(), CHANNEL_BYTES, 3, 1, fd, base);
        assert_ne!(channel as isize, -1, "map the channel memory");
        // MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
        let bell = mmap(DOORBELL_PAGE as *mut c_void, 4096, 3, 0x10_0022, -1, 0);
        assert_eq!(bell as usize, DOORBELL_PAGE, "map the doorbell");
        (channel.cast::<u8>(), bell.cast::<u64>())
    };
    // SAFETY: every offset is 8-byte aligned (4 for the u32) and inside the 8 MiB mapping.
    let put = |offset: usize, value: u64| unsafe { memory.add(offset).cast::<u64>().write_volatile(value) };
    // SAFETY: as above.
    let get = |offset: usize| unsafe { memory.add(offset).cast::<u64>().read_volatile() };

    let mut boot = 0u64;
    // SAFETY: eight bytes to fill.
    unsafe { getrandom((&raw mut boot).cast(), 8, 0) };
    put(0x220, boot);
    put(0x218, std::thread::available_parallelism().map_or(0, |n| n.get() as u64));
    put(0x200, 0);
    put(0x208, 0);
    put(0x000, u64::from_le_bytes(*b"KTSTRCH1"));
    println!("probe: ready");
    // State ready, in the version that the test was compiled with.
    put(0x008, env!("PROTOCOL_VERSION").parse::<u64>().unwrap() | 1 << 32);

    let (mut ticks, mut rung, mut done) = (0u64, 0u64, 0u64);
    loop {
        ticks += 1;
        put(0x210, ticks);
        let order = get(0x200);
        if order != 0 {
            put(0x200, 0);
            // The host looks at the CPU on which an order stops the machine, and what it mends it mends for that CPU: a timer in between
            // must not have the kernel move this thread.
            stay(true);
            match order {
                RING => {
                    rung += 1;
                    // SAFETY: the page was mapped above.
                    unsafe { doorbell.write_volatile(rung) };
                }
                // SAFETY: the second word of the page that was mapped above.
                TOUCH => unsafe { doorbell.add(1).write_volatile(rung) },
                // SAFETY: no memory is involved.
                CALL => put(0x228, unsafe { getsid(0) } as u64),
                TRAP => put(0x228, trap()),
                KPROBE => put(0x228, kprobe()),
                PATCH => put(0x228, patch()),
                PANIC => return,
                // SAFETY: no memory is involved.
                POWER_OFF => unsafe { assert_eq!(reboot(0x4321_fedc), 0) },
                // SAFETY: no memory is involved.
                RESTART => unsafe { assert_eq!(reboot(0x0123_4567), 0) },
                _ => {}
            }
            done += 1;
            put(0x208, done);
            stay(false);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
