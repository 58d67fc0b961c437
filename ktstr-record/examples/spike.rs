#![allow(missing_docs, clippy::all)]
use guest_init::layout::*;
use guest_init::message::*;
use ktstr_record::channel::*;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
struct Map(*mut libc::c_void);
unsafe impl Send for Map {}
impl Hole for Map {
    fn words(&self) -> &[AtomicU64; HOLE_WORDS] {
        unsafe { &*self.0.cast() }
    }
}
fn cpio(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, mode, body) in [("init", 0o100755u32, data), ("TRAILER!!!", 0, &[][..])] {
        out.extend(
            format!(
                "070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
                1,
                mode,
                0,
                0,
                1,
                0,
                body.len(),
                0,
                0,
                0,
                0,
                name.len() + 1,
                0
            )
            .bytes(),
        );
        out.extend(name.bytes());
        out.push(0);
        while out.len() % 4 != 0 {
            out.push(0)
        }
        out.extend(body);
        while out.len() % 4 != 0 {
            out.push(0)
        }
    }
    out
}
fn main() {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let dir = format!("/dev/shm/guest-spike-{}", std::process::id());
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(format!("{dir}/i.cpio"), cpio(ktstr_record::init_image())).unwrap();
    let ram = format!("{dir}/ram");
    let f = std::fs::File::create_new(&ram).unwrap();
    f.set_len(512 << 20).unwrap();
    drop(f);
    let base = 256u64 << 20;
    let f = std::fs::OpenOptions::new().read(true).write(true).open(&ram).unwrap();
    use std::os::fd::AsRawFd;
    let p = unsafe {
        libc::mmap(std::ptr::null_mut(), HOLE_BYTES, 3, libc::MAP_SHARED, f.as_raw_fd(), base as i64)
    };
    let t0 = Instant::now();
    let mut q = std::process::Command::new("/work/kit/qemu.sh").args(format!("-accel tcg,thread=multi -M pc,memory-backend=m -cpu max -smp 2 -m 512M -object memory-backend-file,id=m,size=512M,mem-path={ram},share=on -kernel /work/kit/vmlinux -initrd {dir}/i.cpio -nodefaults -display none -no-reboot -serial stdio -append").split(' '))
        .arg(format!("console=ttyS0 quiet tsc=reliable lpj=10384400 cryptomgr.notests lsm=capability audit=0 mitigations=off no_timer_check panic=-1 memmap=8M${base:#x} ktstr.channel={base:#x} ktstr.doorbell=none")).stdin(std::process::Stdio::null()).spawn().unwrap();
    let mut ch = HostChannel::new(Map(p));
    while ch.state() != GuestState::Ready {
        std::thread::sleep(Duration::from_millis(1));
        if t0.elapsed().as_secs() > 20 || q.try_wait().unwrap().is_some() {
            println!("never ready");
            for r in ch.poll() {
                println!("{r:?}");
            }
            q.kill().ok();
            std::fs::remove_dir_all(&dir).unwrap();
            return;
        }
    }
    println!("ready after {:?}", t0.elapsed());
    let r = ch.poll();
    println!("{} frames, last {:?}", r.len(), r.last());
    let t1 = Instant::now();
    let d = Instant::now() + Duration::from_secs(30);
    spike_job(&mode, &mut ch, d);
    println!("job sent in {:?}", t1.elapsed());
    let t2 = Instant::now();
    loop {
        for r in ch.poll() {
            match &r {
                Received::Frame { message: ToHost::Output { source, bytes, .. }, .. } => {
                    println!("{:?} [{source:?}] {}", t2.elapsed(), String::from_utf8_lossy(bytes))
                }
                Received::Frame { message: ToHost::Capture { id, .. }, .. } => {
                    println!("{:?} {r:?}", t1.elapsed());
                    ch.ack_capture(*id)
                }
                _ => println!("{:?} {r:?}", t1.elapsed()),
            }
        }
        if q.try_wait().unwrap().is_some() {
            for r in ch.poll() {
                println!("{r:?}");
            }
            break;
        }
        if t2.elapsed().as_secs() > 25 {
            println!("timeout");
            q.kill().ok();
            break;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    println!("off after {:?}, state {:?}", t1.elapsed(), ch.state());
    std::fs::remove_dir_all(&dir).unwrap();
}
fn put(ch: &mut HostChannel<Map>, host: &str, guest: &str, d: Instant) {
    let data = std::fs::read(host).unwrap();
    for (i, piece) in data.chunks(256 << 10).enumerate() {
        ch.send(&ToGuest::File { path: guest.into(), mode: 0o755, first: i == 0, bytes: piece.to_vec() }, d)
            .unwrap();
    }
}
fn spike_job(mode: &str, ch: &mut HostChannel<Map>, d: Instant) {
    let mut job = Job {
        wall_clock_ns: 1_700_000_000_000_000_000,
        seed: vec![7; 32],
        test_timeout_ms: 3000,
        enable_timeout_ms: 3000,
        exit_timeout_ms: 1000,
        ..Job::default()
    };
    let sh = |text: &str| Program {
        path: "/bin/bash".into(),
        args: vec!["-c".into(), text.into()],
        env: vec!["PATH=/bin".into(), "A=b".into()],
    };
    match mode {
        "never" => {
            std::thread::sleep(Duration::from_secs(3));
            ch.send(&ToGuest::Stop, d).unwrap();
            return;
        }
        "noloader" => put(ch, "/bin/bash", "/bin/bash", d),
        _ => {
            put(ch, "/bin/bash", "/bin/bash", d);
            for l in ["libtinfo.so.6", "libc.so.6", "ld-linux-x86-64.so.2"] {
                put(ch, &format!("/lib/x86_64-linux-gnu/{l}"), &format!("/lib/x86_64-linux-gnu/{l}"), d);
            }
            ch.send(
                &ToGuest::Link {
                    path: "/lib64/ld-linux-x86-64.so.2".into(),
                    target: "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2".into(),
                },
                d,
            )
            .unwrap();
        }
    }
    match mode {
        "crash" => job.test = sh("echo about; kill -SEGV $$"),
        "hang" => job.test = sh("trap '' TERM; echo hanging; while :; do :; done"),
        "sched" => {
            job.scheduler = Some(sh("echo no scheduler >&2; exit 3"));
            job.test = sh("echo x");
        }
        "big" => {
            let t = Instant::now();
            for i in 0..64 {
                ch.send(
                    &ToGuest::File {
                        path: "/big".into(),
                        mode: 0o644,
                        first: i == 0,
                        bytes: vec![i as u8; 256 << 10],
                    },
                    d,
                )
                .unwrap();
            }
            println!("16 MiB in {:?}", t.elapsed());
            job.test = sh("echo x");
        }
        "flood" => {
            job.test = sh(
                "for i in {1..20000}; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; done; echo; echo end",
            )
        }
        _ => {
            job.test = sh(
                "echo hello $A; ulimit -a | head -3; read -r up _ < /proc/uptime; echo $up; printf '%(%F)T\n'; while read -r l; do echo \"$l\"; done < /proc/mounts; echo err >&2; exit 4",
            )
        }
    }
    ch.send(&ToGuest::Start(job), d).unwrap();
}
