//! The trace of a run is never lost: not by a kill of the recorder at any moment, and not by a full disk.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_replay::trace::record::LossKind;
use ktstr_replay::trace::{Completeness, Kind};
use ktstr_tests::{Ended, fixture, ktstr, run_bounded};
use rustix::process::{Pid, Signal, kill_process};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// Longer than a boot of the machine takes, also when others boot, and than it waits for CPUs of the host that other machines have.
const TO_START: Duration = Duration::from_secs(900);

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 8, num_snapshots = 16)]
fn recorded(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

/// The first file of a folder, if it has come to be.
fn first_file(folder: &Path) -> Option<PathBuf> {
    Some(folder.read_dir().expect("a folder").next()?.expect("an entry").path())
}

fn tool(args: &[&str], trace: &Path, more: &[&Path]) -> Ended {
    run_bounded(ktstr().args(args).arg(trace).args(more), Duration::from_secs(120))
}

/// What a recording has come to before it is killed, and within how many ms from then.
type Moment = (&'static str, fn(&Path) -> bool, u64);

const MOMENTS: [Moment; 3] = [
    // Between the making of the file and its first bytes there is nothing to be lost.
    ("its file is there", |path| Trace::open(path).is_ok(), 3000),
    // The kernel's types and symbols, 3 MiB, come first; some 8 MiB of pages follow, and are committed together.
    (
        "its first checkpoint is being written",
        |path| path.metadata().is_ok_and(|file| file.len() > 4 << 20),
        200,
    ),
    (
        "its first checkpoint is there",
        |path| Trace::open(path).is_ok_and(|trace| !trace.checkpoints().is_empty()),
        3000,
    ),
];

/// Starts a recording, kills its recorder `delay` after it is `ready`, and returns what was in its file just before.
fn kill_when(ready: fn(&Path) -> bool, delay: Duration, results: &Path, command: &mut Command) -> Vec<u8> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child");
    let began = Instant::now();
    let file = loop {
        if let Some(file) = first_file(results).filter(|file| ready(file)) {
            break file;
        }
        let ended = child.try_wait().expect("waiting");
        assert!(ended.is_none(), "it ended before that: {ended:?}");
        assert!(began.elapsed() < TO_START, "not there after {TO_START:?}");
        sleep(Duration::from_millis(1));
    };
    sleep(delay);
    let before = fs::read(&file).expect("a trace that is written");
    kill_process(Pid::from_child(&child), Signal::KILL).expect("killing");
    assert!(!child.wait().expect("waiting").success(), "it ended before it was killed");
    before
}

/// The trace opens; what was committed is there and intact; `verify` says what is missing; `repair` makes a finished
/// trace of it that replays, and does not touch it.
fn assert_survives(path: &Path, before: &[u8]) {
    let bytes = fs::read(path).expect("the trace");
    let trace = Trace::open(path).expect("the trace of a killed recorder opens");
    assert!(bytes.starts_with(before) || !trace.is_finalized(), "it was finished");
    let earlier = Trace::from_bytes(before.to_vec()).expect("it opened before");
    let committed = earlier.records();
    assert_eq!(&trace.records()[..committed.len()], committed, "committed records are gone");
    let verification = trace.verify();
    let Completeness { finalized, absent_records, uncommitted_bytes, .. } = &verification.completeness;
    assert!(!finalized && *absent_records == 0, "{verification:?}");
    // A torn record at the end is all that may be wrong.
    let end = bytes.len() as u64 - uncommitted_bytes;
    assert!(verification.faults.iter().all(|fault| fault.offset >= end), "{verification:?}");

    let verify = tool(&["trace", "verify"], path, &[]);
    assert_eq!(verify.status.code(), Some(1), "{verify}");
    assert!(verify.stdout.contains("it was not finished"), "{verify}");
    for fault in &verification.faults {
        assert!(verify.stdout.contains(&fault.offset.to_string()), "{fault} is not said: {verify}");
    }

    let folder = tempfile::tempdir().expect("a folder");
    let repaired = folder.path().join("repaired.trace.zst");
    let repair = tool(&["trace", "repair"], path, &[&repaired]);
    assert!(repair.status.success(), "{repair}");
    assert_eq!(fs::read(path).expect("the trace"), bytes, "repair touched the old file");
    let fresh = Trace::open(&repaired).expect("the repaired trace opens");
    assert!(fresh.verify().is_clean(), "{:?}", fresh.verify());
    let of_kind =
        |trace: &Trace, kind: Kind| trace.records().iter().filter(|r| r.kind == kind.code()).count();
    for kind in Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Commit | Kind::Loss)) {
        assert_eq!(of_kind(&fresh, kind), of_kind(&trace, kind), "{kind} records");
    }
    let replay = tool(&["replay"], &repaired, &[Path::new("--assert")]);
    assert_eq!(replay.status.code(), Some(2), "inconclusive: {replay}");
    assert!(replay.stdout.contains("the recording has no end"), "{replay}");
}

#[test]
fn a_recorder_killed_at_any_moment_loses_what_was_not_committed_and_no_more() {
    let seed = RandomState::new().hash_one(0);
    for (nth, (when, ready, within_ms)) in (0u32..).zip(MOMENTS) {
        let delay = Duration::from_millis(seed.rotate_left(16 * nth) % within_ms);
        println!("seed {seed:#x}: killed {delay:?} after {when}");
        let (mut command, results) = fixture("recorded").into_parts();
        let before = kill_when(ready, delay, results.path(), &mut command);
        let path = first_file(results.path()).expect("the trace");
        assert_survives(&path, &before);
        let trace = Trace::open(&path).expect("it opens");
        let (records, checkpoints) = (trace.records().len(), trace.checkpoints().len());
        println!(
            "  {} bytes: {records} records, {checkpoints} checkpoints, {:?}",
            trace.len_bytes(),
            trace.completeness()
        );
    }
}

/// Mounts a disk of `$1` KiB at `$2`, runs the rest of the arguments with its traces there, and takes the traces to
/// `$3` before the disk is gone.
const ON_A_SMALL_DISK: &str = r#"
    mount -t tmpfs -o size="$1"k tmpfs "$2" || exit 99
    disk=$2 keep=$3
    shift 3
    KTSTR_RESULTS="$disk" "$@"
    code=$?
    df -k "$disk" >&2
    cp "$disk"/* "$keep" || exit 98
    exit $code"#;

/// Runs the fixture with its trace on a disk of `kib` KiB: how it ended, and the trace. `None` on a host that lets
/// its users mount nothing.
fn on_a_disk_of(kib: u32) -> Option<(Ended, Trace)> {
    let unshare = ["--user", "--map-root-user", "--mount"];
    let allowed = Command::new("unshare").args(unshare).args(["mount", "-t", "tmpfs", "x", "/mnt"]).output();
    if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: this host lets its users mount nothing ({allowed:?})");
        return None;
    }
    let (command, results) = fixture("recorded").into_parts();
    let disk = tempfile::tempdir().expect("a folder");
    let mut inside = Command::new("unshare");
    inside.args(unshare).args(["sh", "-c", ON_A_SMALL_DISK, "sh"]).arg(kib.to_string());
    inside.args([disk.path(), results.path()]).arg(command.get_program()).args(command.get_args());
    let ended = run_bounded(&mut inside, TO_START);
    assert!(!matches!(ended.status.code(), Some(98 | 99)), "{ended}");
    let path = first_file(results.path()).unwrap_or_else(|| panic!("no trace:\n{ended}"));
    let trace = Trace::open(&path).unwrap_or_else(|error| panic!("{error}\n{ended}"));
    Some((ended, trace))
}

/// Room for the kernel's types and the events, and not for its memory: the run goes on to its verdict, and what is
/// missing is said by the trace itself.
#[test]
fn on_a_full_disk_a_run_keeps_what_fits_and_says_what_does_not() {
    let Some((ended, trace)) = on_a_disk_of(6 << 10) else { return };
    let verification = trace.verify();
    assert!(verification.faults.is_empty(), "{verification:?}\n{ended}");
    assert!(trace.is_finalized(), "{verification:?}\n{ended}");
    assert!(trace.checkpoints().is_empty(), "the disk was not full\n{ended}");
    let samples: Vec<_> = trace.samples().filter_map(Result::ok).collect();
    assert!(samples.iter().filter(|sample| sample.missed.is_none()).count() >= 16, "{samples:?}\n{ended}");
    let lost: Vec<_> = trace.losses().into_iter().filter(|loss| loss.kind == LossKind::Pages).collect();
    assert!(
        !lost.is_empty() && lost.iter().any(|loss| loss.detail.contains("No space left")),
        "{lost:?}\n{ended}"
    );
    assert!(ended.stdout.contains("No space left"), "the report does not say it:\n{ended}");
    // Nothing was broken that was seen, and what is lost could have shown it.
    assert!(ended.stdout.contains("INCONCLUSIVE"), "{ended}");
}

/// No room for anything but the first records: the run ends with an error, and the trace opens.
#[test]
fn on_a_disk_without_room_a_run_is_an_error_and_its_trace_opens() {
    let Some((ended, trace)) = on_a_disk_of(16) else { return };
    assert!(!ended.status.success(), "{ended}");
    assert!(
        ended.stderr.contains("the trace is incomplete") && ended.stderr.contains("No space left"),
        "{ended}"
    );
    assert!(!trace.is_finalized(), "{ended}");
    assert!(trace.manifest().is_ok(), "{ended}");
    assert!(trace.verify().faults.is_empty(), "{:?}\n{ended}", trace.verify());
}
