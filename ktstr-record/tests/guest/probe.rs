//! PID 1 of the machine's own tests: sets up the channel's header as guest-init does, then obeys single words.
//!
//! Compiled by `tests/machine.rs` with plain `rustc`, static, without crates: libc is declared by hand.
//!
//! ```text
//! 0x200 order   u64  written by the host: RING, PANIC, POWER_OFF, RESTART, TOUCH
//! 0x208 done    u64  orders obeyed so far
//! 0x210 ticks   u64  turns of the loop (1 ms each)
//! 0x218 cpus    u64  CPUs online
//! 0x220 boot    u64  random number drawn at boot: equal only for machines that come from one boot
//! ```

use std::ffi::{c_char, c_int, c_long, c_ulong, c_void};

unsafe extern "C" {
    fn mknod(path: *const c_char, mode: u32, dev: c_ulong) -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn mmap(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, off: c_long) -> *mut c_void;
    fn reboot(how: c_int) -> c_int;
    fn mount(src: *const c_char, at: *const c_char, kind: *const c_char, flags: c_ulong, data: *const c_void)
    -> c_int;
    fn getrandom(to: *mut c_void, len: usize, flags: u32) -> isize;
}

const RING: u64 = 1;
const PANIC: u64 = 2;
const POWER_OFF: u64 = 3;
const RESTART: u64 = 4;
const TOUCH: u64 = 5;

const CHANNEL_BYTES: usize = 8 << 20;
const DOORBELL_PAGE: usize = 0x6b74_7000_0000;

fn main() {
    // SAFETY: plain system calls on constant, NUL-terminated strings.
    let (memory, doorbell) = unsafe {
        std::fs::create_dir_all("/proc").unwrap();
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
            match order {
                RING => {
                    rung += 1;
                    // SAFETY: the page was mapped above.
                    unsafe { doorbell.write_volatile(rung) };
                }
                // SAFETY: the second word of the page that was mapped above.
                TOUCH => unsafe { doorbell.add(1).write_volatile(rung) },
                PANIC => return,
                // SAFETY: no memory is involved.
                POWER_OFF => unsafe { assert_eq!(reboot(0x4321_fedc), 0) },
                // SAFETY: no memory is involved.
                RESTART => unsafe { assert_eq!(reboot(0x0123_4567), 0) },
                _ => {}
            }
            done += 1;
            put(0x208, done);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
