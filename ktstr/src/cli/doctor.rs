//! `ktstr doctor`: what this host has, and what it lacks, for tests. Fetches nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;

use clap::Args;
use ktstr_record::machine::KvmProbe;
use ktstr_record::provision::{CachePlace, Host, cargo};
use serde::Serialize;

use super::commands::CommandArgs;
use super::out;
use super::test::optimizes_reader;
use crate::host::environment::Environment;
use crate::host::machine;

/// What emulator, kernel and toolchain take on disk, in MiB, and what is left free beside them. Measured: 1.6 GB.
const NEEDED_MIB: u64 = 2048;
/// What a test's machine takes, in MiB: the guest's RAM where a test says nothing, and the emulator's own.
const MACHINE_MIB: u64 = 512 + 160;
/// Open files that a run with a machine for each CPU may need.
const OPEN_FILES: u64 = 1024;

/// Print what this host has and lacks for tests: place, packages, CPUs, memory, limits, cargo. Fetches nothing
///
/// Exits with 0 where tests can run, and with 1 where something is lacking that they need.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CommandArgs for DoctorArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        diagnose(self.json)
    }
}

/// Print what the host has and lacks, for `ktstr setup --check` as well.
pub(super) fn diagnose(as_json: bool) -> anyhow::Result<ExitCode> {
    let rows = rows();
    if as_json {
        out::write_json(&serde_json::json!({ "ready": is_ready(&rows), "host": rows }))?;
    } else {
        out::write(&text(&rows))?;
    }
    Ok(if is_ready(&rows) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is there.
    Ok,
    /// Tests run, and would be better off with it.
    Note,
    /// Tests need it.
    Lacks,
}

/// One thing of the host.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    name: &'static str,
    state: State,
    /// What was found, and what to do about it.
    found: String,
}

fn row(name: &'static str, state: State, found: impl Into<String>) -> Row {
    Row { name, state, found: found.into() }
}

fn is_ready(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.state != State::Lacks)
}

fn text(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let state = match row.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Lacks => "LACKS",
        };
        format!("{:<10} {state:<6} {}\n", row.name, row.found)
    };
    let end = if is_ready(rows) { "tests can run here" } else { "tests cannot run here yet" };
    rows.iter().map(line).collect::<String>() + end + "\n"
}

fn rows() -> Vec<Row> {
    let host = Host::current();
    let place = CachePlace::of_user();
    let root = place.as_ref().ok().map(|place| place.root.clone());
    let mut rows =
        vec![row("host", if cfg!(target_arch = "x86_64") { State::Ok } else { State::Lacks }, system())];
    match &place {
        Err(error) => rows.push(row("cache", State::Lacks, error.to_string())),
        Ok(place) => {
            rows.push(cache(place));
            rows.push(space(place, filled(&host, &place.root)));
        }
    }
    rows.push(apt(&host, root.as_deref()));
    rows.push(emulator(&host, root.as_deref()));
    rows.push(kernels(root.as_deref()));
    rows.push(toolchain(&host, root.as_deref()));
    rows.push(cpus());
    // What the probe finds is kept there, and nothing is in a place that cannot be used.
    let usable = place.as_ref().ok().filter(|place| place.check().is_ok());
    rows.push(kvm(usable.map(|place| place.root.as_path())));
    rows.push(memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default()));
    rows.push(limits(&fs::read_to_string("/proc/self/limits").unwrap_or_default()));
    rows.push(nextest());
    rows.extend(profile());
    rows
}

fn system() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} with kernel {}; ktstr's machines are of x86_64", std::env::consts::ARCH, release.trim())
}

fn cache(place: &CachePlace) -> Row {
    match (place.check(), &place.note) {
        (Err(error), _) => row("cache", State::Lacks, error.to_string()),
        (Ok(()), _) if !place.is_writable() => {
            let found = format!(
                "{} cannot be written to; set XDG_CACHE_HOME to a folder that can",
                place.root.display()
            );
            row("cache", State::Lacks, found)
        }
        (Ok(()), Some(note)) => row("cache", State::Note, note.clone()),
        (Ok(()), None) => row("cache", State::Ok, place.root.display().to_string()),
    }
}

/// How much of what tests need is there: emulator, kernel and toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    Nothing,
    Partly,
    All,
}

fn filled(host: &Host, root: &Path) -> Filled {
    let there = [
        host.qemu.is_some() || is_in(root, "bundles", "emulator-"),
        !names(root, "kernels").is_empty(),
        host.bpf_root.is_some() || is_in(root, "bundles", "bpf-toolchain-"),
    ];
    match there.into_iter().filter(|is_there| *is_there).count() {
        0 => Filled::Nothing,
        3 => Filled::All,
        _ => Filled::Partly,
    }
}

fn space(place: &CachePlace, filled: Filled) -> Row {
    match place.free_bytes().map(|bytes| bytes >> 20) {
        Some(free) => space_of(free, filled),
        None => row("space", State::Note, "the host does not tell how much is free for the cache"),
    }
}

fn space_of(free_mib: u64, filled: Filled) -> Row {
    let found = format!("{free_mib} MiB are free for the cache");
    if free_mib >= NEEDED_MIB || filled == Filled::All {
        return row("space", State::Ok, found);
    }
    // How much less the rest takes is not known before it is fetched.
    let state = if filled == Filled::Partly { State::Note } else { State::Lacks };
    let what = format!(
        "{found}; emulator, kernel and toolchain take {NEEDED_MIB} together: point XDG_CACHE_HOME at a larger disk"
    );
    row("space", state, what)
}

/// Whether a folder of the cache has an entry whose name begins so.
fn is_in(root: &Path, folder: &str, begin: &str) -> bool {
    names(root, folder).iter().any(|name| name.starts_with(begin))
}

fn names(root: &Path, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn apt(host: &Host, root: Option<&Path>) -> Row {
    let lacking: Vec<_> =
        ["apt-get", "apt-cache", "dpkg-deb"].into_iter().filter(|name| host.find(name).is_none()).collect();
    if lacking.is_empty() {
        return row("apt", State::Ok, "emulator, kernels and toolchain are fetched with it, without root");
    }
    let without = format!("{} not found in PATH", lacking.join(", "));
    let filled =
        root.is_some_and(|root| is_in(root, "bundles", "emulator-") && !names(root, "kernels").is_empty());
    if filled || (host.qemu.is_some() && host.bpf_root.is_some()) {
        return row("apt", State::Note, format!("{without}: nothing more can be fetched"));
    }
    let instead = "install apt and dpkg, or set KTSTR_QEMU, KTSTR_BPF_ROOT and --kernel to what you have";
    row("apt", State::Lacks, format!("{without}; {instead}"))
}

fn emulator(host: &Host, root: Option<&Path>) -> Row {
    if let Some(given) = &host.qemu {
        // A name alone is looked for in PATH when it is started.
        let is_name = |name: &&str| !name.contains('/');
        let is_there =
            given.is_file() || given.to_str().filter(is_name).is_some_and(|name| host.find(name).is_some());
        return match is_there {
            true => row("emulator", State::Ok, format!("KTSTR_QEMU: {}", given.display())),
            false => {
                row("emulator", State::Lacks, format!("KTSTR_QEMU: there is no program {}", given.display()))
            }
        };
    }
    let cached = root.is_some_and(|root| is_in(root, "bundles", "emulator-"));
    match (cached, host.find("qemu-system-x86_64")) {
        (true, None) => row("emulator", State::Ok, "in the cache"),
        (true, Some(found)) => {
            let found = found.display();
            row("emulator", State::Ok, format!("{found} if it is 8.1 or newer, else that in the cache"))
        }
        (false, Some(found)) => {
            let found = found.display();
            row("emulator", State::Ok, format!("{found} if it is 8.1 or newer, else one will be fetched"))
        }
        (false, None) => row("emulator", State::Note, "will be fetched"),
    }
}

fn kernels(root: Option<&Path>) -> Row {
    match root.map(|root| names(root, "kernels")).unwrap_or_default().as_slice() {
        [] => row("kernels", State::Note, "none in the cache; one will be fetched"),
        names => row("kernels", State::Ok, names.join(", ")),
    }
}

fn toolchain(host: &Host, root: Option<&Path>) -> Row {
    if let Some(given) = &host.bpf_root {
        let state = if given.is_dir() { State::Ok } else { State::Lacks };
        return row("toolchain", state, format!("KTSTR_BPF_ROOT: {}", given.display()));
    }
    match root.is_some_and(|root| is_in(root, "bundles", "bpf-toolchain-")) {
        true => row("toolchain", State::Ok, "in the cache"),
        false => row("toolchain", State::Note, "will be fetched when a scheduler is built"),
    }
}

fn cpus() -> Row {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let advice = if cpus == 1 { ": tests with several CPUs are slow on one" } else { "" };
    row(
        "CPUs",
        if cpus == 1 { State::Note } else { State::Ok },
        format!("{cpus} for machines and builds{advice}"),
    )
}

/// What `ktstr machine` says: that the device opens proves nothing.
fn kvm(cache: Option<&Path>) -> Row {
    let probe = cache.map_or_else(KvmProbe::fresh, KvmProbe::cached);
    match machine::decide(probe, &Environment::read()) {
        Ok(choice) => row("machine", State::Ok, format!("{}; {}", choice.machine, choice.why)),
        Err(error) => row("machine", State::Lacks, format!("{error:#}")),
    }
}

fn memory(meminfo: &str) -> Row {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse().ok());
    let Some(mib) = kib.map(|kib: u64| kib >> 10) else {
        return row("memory", State::Note, "the host does not tell how much is free");
    };
    let found = format!("{mib} MiB are free");
    match mib >= MACHINE_MIB {
        true => row("memory", State::Ok, found),
        false => row("memory", State::Lacks, format!("{found}; a machine takes about {MACHINE_MIB}")),
    }
}

fn limits(limits: &str) -> Row {
    let soft = |name: &str| {
        let rest = limits.lines().find_map(|line| line.strip_prefix(name));
        rest.and_then(|rest| rest.split_whitespace().next()).map(str::to_owned)
    };
    let too_low = |name: &str, least: u64| {
        soft(name).and_then(|value| value.parse().ok()).filter(|value: &u64| *value < least)
    };
    if let Some(bytes) = too_low("Max file size", MACHINE_MIB << 20) {
        return row(
            "limits",
            State::Lacks,
            format!("files of at most {bytes} bytes; `ulimit -f unlimited` lifts that"),
        );
    }
    if let Some(bytes) = too_low("Max address space", MACHINE_MIB << 20) {
        return row(
            "limits",
            State::Lacks,
            format!("{bytes} bytes of address space; `ulimit -v unlimited` lifts that"),
        );
    }
    if let Some(files) = too_low("Max open files", OPEN_FILES) {
        return row(
            "limits",
            State::Note,
            format!("{files} open files; run `ulimit -n {OPEN_FILES}` for tests in parallel"),
        );
    }
    row("limits", State::Ok, "open files, file size and address space are enough")
}

/// cargo, which rustup is not to fetch, nor the toolchain that a workspace asks for.
fn asking_cargo() -> Command {
    let mut command = Command::new(cargo());
    command.env("RUSTUP_AUTO_INSTALL", "0");
    command
}

fn nextest() -> Row {
    let output = asking_cargo().args(["nextest", "--version"]).output();
    match output {
        Err(error) => row(
            "cargo",
            State::Lacks,
            format!("does not start ({error}): traces can be read, tests not be run"),
        ),
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            row("nextest", State::Ok, version.lines().next().unwrap_or_default())
        }
        Ok(_) => {
            let advice = "`cargo install cargo-nextest --locked` gives each test a process and a time limit";
            row("nextest", State::Note, format!("is not installed; cargo test is used. {advice}"))
        }
    }
}

/// How the workspace around builds what reads traces; `None` outside of one, or of one that does not use ktstr.
fn profile() -> Option<Row> {
    let output =
        asking_cargo().args(["locate-project", "--workspace", "--message-format", "plain"]).output().ok()?;
    let manifest = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let manifest = Path::new(manifest.trim());
    let text = fs::read_to_string(manifest).ok()?;
    // Before the first build there is no lock file.
    let packages = fs::read_to_string(manifest.with_file_name("Cargo.lock"));
    if !packages.as_ref().unwrap_or(&text).contains("ktstr") {
        return None;
    }
    Some(match optimizes_reader(&text) {
        true => row("profile", State::Ok, "the reader of traces is optimized in tests"),
        false => row(
            "profile",
            State::Note,
            "cargo test and nextest read traces unoptimized, which makes pauses of the guest long; add to Cargo.toml: \
             [profile.dev.package.ktstr-replay] opt-level = 3 (`cargo ktstr test` does without)",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_need_and_is_not_there_makes_the_host_not_ready() {
        let small = memory("MemTotal: 1000000 kB\nMemAvailable:     1024 kB\n");
        assert_eq!(
            (small.state, small.found.as_str()),
            (State::Lacks, "1 MiB are free; a machine takes about 672")
        );
        assert_eq!(memory("MemAvailable: 2000000 kB\n").state, State::Ok);
        assert_eq!(memory("").state, State::Note);
        let limit = |line: &str| limits(line).state;
        assert_eq!(
            limit("Max open files            256                  524288               files\n"),
            State::Note
        );
        assert_eq!(
            limit("Max file size             1024                 unlimited            bytes\n"),
            State::Lacks
        );
        assert_eq!(
            limit("Max file size             unlimited            unlimited            bytes\n"),
            State::Ok
        );
        // What only slows tests down does not hide what keeps them from running.
        assert_eq!(limit("Max open files 256 256 files\nMax file size 1024 1024 bytes\n"), State::Lacks);
        let space = |mib, filled| space_of(mib, filled).state;
        assert_eq!(space(NEEDED_MIB, Filled::Nothing), State::Ok);
        assert_eq!(space(1, Filled::Nothing), State::Lacks);
        assert_eq!(space(1, Filled::Partly), State::Note);
        assert_eq!(space(1, Filled::All), State::Ok);
        let rows = [row("a", State::Ok, "x"), row("b", State::Note, "y")];
        assert!(is_ready(&rows) && text(&rows).ends_with("tests can run here\n"));
        let rows = [row("memory", State::Lacks, "none")];
        assert!(!is_ready(&rows));
        assert_eq!(text(&rows), "memory     LACKS  none\ntests cannot run here yet\n");
    }
}
