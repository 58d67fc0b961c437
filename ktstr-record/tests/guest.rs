//! The guest's init in a real VM, with this very test binary as the test that it runs: `in_guest` is what happens
//! inside, by the role in its environment.

use std::env;
use std::fs::{self, File};
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use guest_init::layout::{CMDLINE_CHANNEL, OFF_TO_HOST_HEAD, OFF_TO_HOST_RING, TO_HOST_BYTES};
use guest_init::message::{CaptureReason, FromTest, GuestStage, Source, TEST_SOCKET_FD, ToGuest, ToHost};
use ktstr_record::channel::{GuestState, HostChannel, Received, SendError};
use ktstr_record::init_image;
use ktstr_record::job::{ByChannel, ClockAndSeed, JobBuilder, JobLimits, JobParts, PackedJob, Way};
use ktstr_record::machine::{ChannelRam, Machine, MachineEvent, StartPolicy, WatchId, start};
use ktstr_record::provision::{KernelSpec, Provisioner};
use ktstr_record::spec::{MachineSpec, Topology};
use ktstr_replay::trace::record::GuestEnd;
use rkyv::rancor;

/// Longer than anything takes here on a busy host.
const LONG: Duration = Duration::from_secs(120);
const LIMITS: JobLimits =
    JobLimits { enable_ms: 60_000, restart_ms: 1_000, test_ms: 60_000, exit_ms: 10_000 };
const ROLE: &str = "GUEST_TEST_ROLE";
/// 2026-01-02 03:04:05 UTC.
const WALL_CLOCK_S: u64 = 1_767_323_045;

/// A machine that waits for its job.
struct Guest {
    machine: Box<dyn Machine>,
    channel: HostChannel<ChannelRam>,
    /// When it was ready.
    began: Instant,
}

/// All that a guest said until it ended.
#[derive(Default)]
struct Heard {
    messages: Vec<ToHost>,
    losses: Vec<String>,
    doorbells: usize,
    console: Vec<u8>,
}

impl Guest {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(kargs: &[&str]) -> Self {
        let provisioner = Provisioner::open().expect("the cache");
        let spec = MachineSpec {
            backend: provisioner.emulator().expect("an emulator").into(),
            kernel: provisioner.kernel(&KernelSpec::Latest).expect("a kernel"),
            topology: Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 2, threads_per_core: 1 },
            memory_mib: 512,
            kaslr: false,
            kargs: kargs.iter().map(|&word| word.to_owned()).collect(),
            performance: false,
        };
        let policy = StartPolicy { boot_timeout: LONG, ..StartPolicy::default() };
        let (machine, start) =
            start(&spec, init_image(), provisioner.cache().root(), policy).expect("a machine");
        println!("{start:?}");
        let memory = ChannelRam::new(machine.ram(), spec.channel_base()).expect("the channel memory");
        Self { machine, channel: HostChannel::new(memory), began: Instant::now() }
    }

    fn deliver(&mut self, job: &PackedJob) {
        let way = &mut ByChannel { channel: &mut self.channel, deadline: Instant::now() + LONG };
        let delivered = job.deliver(JobParts::All, way, clock_and_seed()).expect("taken");
        println!("{delivered:?}");
    }

    /// Listen, and take no capture but say so, until the guest has powered off.
    fn listen(self) -> Heard {
        self.listen_on(Heard::default())
    }

    /// The same of one that has been listened to before.
    fn listen_on(mut self, mut heard: Heard) -> Heard {
        let begin = Instant::now();
        while !self.turn(&mut heard) {
            assert!(begin.elapsed() < LONG, "the guest does not end:\n{heard}");
        }
        assert_eq!(self.channel.state(), GuestState::Done);
        heard.console = self.machine.console();
        heard
    }

    /// Listen until the test has written these words.
    fn listen_until(&mut self, words: &str) -> Heard {
        let (begin, mut heard) = (Instant::now(), Heard::default());
        while !heard.output(Source::Test).contains(words) {
            assert!(!self.turn(&mut heard), "it ended before it said `{words}`:\n{heard}");
            assert!(begin.elapsed() < LONG, "it does not say `{words}`:\n{heard}");
        }
        heard
    }

    /// Listen for a moment; whether the guest has powered off.
    fn turn(&mut self, heard: &mut Heard) -> bool {
        let event = self.machine.wait_event(Duration::from_millis(1));
        for received in self.channel.poll() {
            match received {
                Received::Frame { message, .. } => {
                    match &message {
                        ToHost::Capture { id, .. } => self.channel.ack_capture(*id),
                        ToHost::Stage { stage, .. } => {
                            println!("{stage:?} after {:?}", self.began.elapsed())
                        }
                        _ => {}
                    }
                    heard.messages.push(message);
                }
                Received::Loss(loss) => heard.losses.push(loss.to_string()),
            }
        }
        match event {
            Some(MachineEvent::Watch { id: WatchId::DOORBELL, .. }) => {
                heard.doorbells += 1;
                self.machine.resume().expect("stopped at the doorbell");
                false
            }
            Some(MachineEvent::Ended { end, detail }) => {
                assert_eq!(end, GuestEnd::PoweredOff, "{detail}\n{heard}");
                true
            }
            Some(other) => panic!("{other:?}\n{heard}"),
            None => false,
        }
    }

    fn run(mut self, job: &PackedJob) -> Heard {
        self.deliver(job);
        self.listen()
    }
}

impl Heard {
    fn stages(&self) -> Vec<GuestStage> {
        let stage = |message: &ToHost| match message {
            ToHost::Stage { stage, .. } => Some(*stage),
            _ => None,
        };
        self.messages.iter().filter_map(stage).collect()
    }

    fn detail(&self, wanted: GuestStage) -> &str {
        let mut details = self.messages.iter().filter_map(|message| match message {
            ToHost::Stage { stage, detail } if *stage == wanted => Some(detail.as_str()),
            _ => None,
        });
        details.next().unwrap_or_else(|| panic!("no {wanted:?} in\n{self}"))
    }

    fn output(&self, wanted: Source) -> String {
        let bytes = self.messages.iter().filter_map(|message| match message {
            ToHost::Output { source, bytes, .. } if *source == wanted => Some(bytes.as_slice()),
            _ => None,
        });
        String::from_utf8_lossy(&bytes.collect::<Vec<_>>().concat()).into_owned()
    }

    fn captures(&self) -> Vec<(String, CaptureReason)> {
        let capture = |message: &ToHost| match message {
            ToHost::Capture { tag, reason, .. } => Some((tag.clone(), *reason)),
            _ => None,
        };
        self.messages.iter().filter_map(capture).collect()
    }

    fn packets(&self) -> Vec<FromTest> {
        let said = |message: &ToHost| match message {
            ToHost::Test(bytes) => {
                let mut aligned = rkyv::util::AlignedVec::<16>::new();
                aligned.extend_from_slice(bytes);
                Some(rkyv::from_bytes::<FromTest, rancor::Error>(&aligned).expect("init has checked it"))
            }
            _ => None,
        };
        self.messages.iter().filter_map(said).collect()
    }
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let said = |message: &&ToHost| !matches!(message, ToHost::Kmsg { .. });
        self.messages.iter().filter(said).try_for_each(|message| writeln!(f, "{message:?}"))?;
        self.losses.iter().try_for_each(|loss| writeln!(f, "loss: {loss}"))
    }
}

/// This test binary as the test of a job, in a role.
fn job(role: &str, change: impl FnOnce(&mut JobBuilder)) -> PackedJob {
    let args = ["--exact", "in_guest", "--ignored", "--nocapture"].map(str::to_owned);
    let me = env::current_exe().expect("known");
    let mut builder = JobBuilder::new();
    builder.test(&me, &args, &[format!("{ROLE}={role}"), "RUST_BACKTRACE=0".into()]).expect("packed");
    change(&mut builder);
    builder.build(LIMITS).expect("complete")
}

/// What `in_guest` looks for.
fn clock_and_seed() -> ClockAndSeed {
    ClockAndSeed { wall_clock_ns: WALL_CLOCK_S * 1_000_000_000, seed: vec![7; 32] }
}

/// A host that asks where it may write and then sends the file after all.
struct Undecided<'c>(ByChannel<'c, ChannelRam>);

impl Way for Undecided<'_> {
    fn send(&mut self, message: &ToGuest) -> Result<(), SendError> {
        self.0.send(message)
    }

    fn place(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<usize, SendError> {
        self.send(&ToGuest::Place { path: path.to_owned(), mode, bytes: bytes.len() as u64 })?;
        Ok(0)
    }
}

#[test]
fn a_file_that_is_not_placed_after_all_is_taken_in_pieces() {
    let mut guest = Guest::start();
    let way = &mut Undecided(ByChannel { channel: &mut guest.channel, deadline: Instant::now() + LONG });
    let job = job("speak", |_| {});
    job.deliver(JobParts::All, way, clock_and_seed()).expect("taken");
    let heard = guest.listen();
    let pages = heard.messages.iter().find_map(|message| match message {
        ToHost::Pages { frames, .. } => Some(frames.clone()),
        _ => None,
    });
    let mut frames = pages.unwrap_or_else(|| panic!("no pages: {heard}"));
    assert!(frames.len() > 256, "{} pages for a test binary", frames.len());
    let told = frames.len();
    frames.sort_unstable();
    frames.dedup();
    assert_eq!(frames.len(), told, "a page lies in two places");
    assert_eq!(heard.detail(GuestStage::JobUnpacked), "");
    assert_eq!(heard.detail(GuestStage::TestExited), "exit code 0", "{heard}");
    assert!(heard.output(Source::Test).contains("hello from the guest"), "{heard}");
}

#[test]
fn a_job_runs_and_says_all_that_it_has_to_say() {
    let heard = Guest::start().run(&job("speak", |_| {}));
    assert_eq!(heard.losses, [""; 0]);
    assert_eq!(heard.stages(), [GuestStage::JobUnpacked, GuestStage::TestExited, GuestStage::PoweringOff]);
    assert_eq!(heard.detail(GuestStage::TestExited), "exit code 0", "{heard}");
    let captures = [
        ("attach".to_owned(), CaptureReason::Attach),
        ("mine".to_owned(), CaptureReason::OnDemand),
        ("end".to_owned(), CaptureReason::End),
    ];
    assert_eq!(heard.captures(), captures);
    // The machine stopped for each of them.
    assert_eq!(heard.doorbells, 3);
    assert_eq!(
        heard.packets(),
        [FromTest::BodyStarted, FromTest::BodyEnded { error: None, failures: vec![] }]
    );
    assert!(heard.output(Source::Test).contains("hello from the guest"), "{heard}");
    assert!(heard.output(Source::Init).contains("no message"), "{heard}");
    // The boot log comes although a template may have been restored, and what the kernel says during the run too.
    let log = |text: &str| {
        heard
            .messages
            .iter()
            .any(|message| matches!(message, ToHost::Kmsg { text: line, .. } if line.contains(text)))
    };
    assert!(log("Linux version") && log("said to kmsg"), "{:#?}", heard.messages);
    assert!(matches!(&heard.messages.iter().find(|m| !matches!(m, ToHost::Kmsg { .. })),
        Some(ToHost::Ready { release }) if release.starts_with(|c: char| c.is_ascii_digit())));
}

/// The doorbell of another machine, here a port at which this one has its console: what init writes to it arrives there, and its
/// requests are in the channel all the same.
#[test]
fn a_doorbell_that_is_a_port_is_written_to() {
    let heard = Guest::start_with(&["ktstr.doorbell=port:0x3f8"]).run(&job("speak", |_| {}));
    assert_eq!(heard.losses, [""; 0]);
    assert_eq!(heard.detail(GuestStage::TestExited), "exit code 0", "{heard}");
    assert_eq!((heard.captures().len(), heard.doorbells), (3, 0));
    let rung: Vec<u8> = heard.console.iter().copied().filter(|byte| (1..=3).contains(byte)).collect();
    assert_eq!(rung, [1, 2, 3], "{:?}", String::from_utf8_lossy(&heard.console));
}

#[test]
fn a_crash_is_told_by_its_signal_and_orphans_do_not_hold_up_the_end() {
    let heard = Guest::start().run(&job("crash", |_| {}));
    assert_eq!(heard.detail(GuestStage::TestExited), "signal 6 (SIGABRT)", "{heard}");
    assert!(heard.output(Source::Test).contains("about to crash"), "{heard}");
}

#[test]
fn a_guest_that_overwrites_the_channel_costs_losses_and_no_hang() {
    let heard = Guest::start().run(&job("scribble", |_| {}));
    assert!(!heard.losses.is_empty(), "{heard}");
    assert_eq!(heard.detail(GuestStage::TestExited), "exit code 0", "{heard}");
    assert!(heard.output(Source::Test).contains("after the scribble"), "{heard}");
}

#[test]
fn a_missing_loader_is_named() {
    let loader = |job: &mut JobBuilder| {
        // A link to nowhere in place of the loader.
        job.link("/lib64/ld-linux-x86-64.so.2", "/nowhere");
    };
    let heard = Guest::start().run(&job("speak", loader));
    let detail = heard.detail(GuestStage::Failed);
    assert!(detail.contains("/lib64/ld-linux-x86-64.so.2 is not in the guest"), "{detail}");
}

#[test]
fn a_scheduler_that_gives_up_fails_the_run_with_its_last_words() {
    let folder = tempfile::tempdir().expect("made");
    let script = folder.path().join("scheduler");
    fs::write(&script, "#!/bin/bash\necho 'verifier: no' >&2\nexit 3\n").expect("written");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let heard = Guest::start().run(&job("speak", |job| job.scheduler(&script, &[], &[]).expect("packed")));
    assert!(heard.output(Source::Scheduler).contains("verifier: no"), "{heard}");
    assert!(heard.detail(GuestStage::SchedulerExited).starts_with("exit code 3"), "{heard}");
    assert!(heard.detail(GuestStage::Failed).contains("ended before it was enabled: exit code 3"), "{heard}");
    assert!(!heard.stages().contains(&GuestStage::TestExited), "{heard}");
}

#[test]
fn a_test_that_does_not_end_is_ended_when_the_host_asks() {
    let mut guest = Guest::start();
    guest.deliver(&job("hang", |_| {}));
    let heard = guest.listen_until("hanging");
    guest.channel.send(&ToGuest::Stop, Instant::now() + LONG).expect("room");
    let heard = guest.listen_on(heard);
    // It has a second from SIGTERM to SIGKILL, in which a busy host may not run it.
    let signals = ["signal 15 (SIGTERM)", "signal 9 (SIGKILL)"];
    let details = signals.map(|signal| format!("{signal}; ended by init: the host asked for it"));
    assert!(details.iter().any(|detail| detail == heard.detail(GuestStage::TestExited)), "{heard}");
}

#[test]
fn a_guest_that_is_not_needed_powers_off() {
    let mut guest = Guest::start();
    guest.channel.send(&ToGuest::Stop, Instant::now() + LONG).expect("room");
    assert_eq!(guest.listen().stages(), [GuestStage::PoweringOff]);
}

#[test]
#[ignore = "runs inside the guest"]
fn in_guest() {
    match env::var(ROLE).as_deref() {
        Ok("speak") => speak(),
        Ok("crash") => crash(),
        Ok("orphan") => std::thread::sleep(Duration::from_secs(600)),
        Ok("scribble") => scribble(),
        Ok("hang") => {
            println!("hanging");
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        other => panic!("this is for inside of a guest: {ROLE} is {other:?}"),
    }
}

fn speak() {
    println!("hello from the guest");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    assert!((WALL_CLOCK_S..WALL_CLOCK_S + 600).contains(&now.as_secs()), "{now:?}");
    assert_eq!(env::current_dir().expect("there"), Path::new("/tmp"));
    let mounts = fs::read_to_string("/proc/mounts").expect("mounted");
    for mount in [
        "proc /proc proc",
        "sysfs /sys sysfs",
        "devtmpfs /dev devtmpfs",
        "debugfs /sys/kernel/debug debugfs",
        "tracefs /sys/kernel/tracing tracefs",
        "cgroup2 /sys/fs/cgroup cgroup2",
        "bpf /sys/fs/bpf bpf",
        "tmpfs /dev/shm tmpfs",
        "tmpfs /run tmpfs",
        "tmpfs /tmp tmpfs",
    ] {
        assert!(mounts.contains(mount), "{mount} in {mounts}");
    }
    // Of init's priority nothing is inherited (fields 40 and 41 of proc(5)'s stat: priority and policy).
    let stat = fs::read_to_string("/proc/self/stat").expect("readable");
    let fields: Vec<_> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    assert_eq!(&fields[37..39], ["0", "0"], "{stat}");
    fs::write("/dev/kmsg", "said to kmsg\n").expect("written");

    // SAFETY: init leaves this descriptor to the test, and nothing else in this process uses it.
    let socket = unsafe { std::os::unix::net::UnixDatagram::from_raw_fd(TEST_SOCKET_FD) };
    let say = |message: &FromTest| {
        let archive = rkyv::to_bytes::<rancor::Error>(message).expect("archived");
        assert_eq!(socket.send(&archive).expect("sent"), archive.len());
    };
    say(&FromTest::BodyStarted);
    say(&FromTest::Capture { tag: "mine".into() });
    let mut answer = [0; 8];
    assert_eq!(socket.recv(&mut answer).expect("answered"), 1);
    assert_eq!(answer[0], 1);
    socket.send(&[0xff; 21]).expect("sent");
    say(&FromTest::BodyEnded { error: None, failures: vec![] });
}

fn crash() {
    // It holds the pipes open for longer than this test may last.
    Command::new(env::current_exe().expect("known"))
        .args(env::args_os().skip(1))
        .env(ROLE, "orphan")
        .spawn()
        .expect("started");
    println!("about to crash");
    std::process::abort();
}

fn scribble() {
    let cmdline = fs::read_to_string("/proc/cmdline").expect("readable");
    let word =
        cmdline.split_whitespace().find_map(|word| word.strip_prefix(CMDLINE_CHANNEL)?.strip_prefix("=0x"));
    let base = u64::from_str_radix(word.expect("named"), 16).expect("hexadecimal");
    let memory = File::options().write(true).open(PathBuf::from("/dev/mem")).expect("open");
    for round in 0..20_u64 {
        println!("line {round}");
        for at in (0..TO_HOST_BYTES as u64).step_by(4096) {
            memory
                .write_all_at(&[round as u8 | 1; 64], base + OFF_TO_HOST_RING as u64 + at)
                .expect("written");
        }
        for head in [round * 8, 13, u64::MAX, 1 << 20] {
            memory.write_all_at(&head.to_le_bytes(), base + OFF_TO_HOST_HEAD as u64).expect("written");
        }
    }
    std::thread::sleep(Duration::from_millis(100));
    println!("after the scribble");
}
