//! Provisioning against the real archive: one kernel is fetched into a private cache, and the two
//! bundles into the user's own, where every other test that boots a VM needs them anyway.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use ktstr_record::provision::{Cache, Error, Host, KernelSpec, Progress, Provisioner};
use ktstr_record::spec::Kernel;

/// Tells a copy of this program that it is the one to be killed.
const KILLED_CACHE: &str = "KTSTR_TEST_KILLED_CACHE";

/// A cache into which four rivals have fetched `latest` at once.
struct Warm {
    dir: tempfile::TempDir,
    kernels: Vec<Kernel>,
    apt_calls: Vec<String>,
}

impl Warm {
    fn get() -> &'static Self {
        static WARM: OnceLock<Warm> = OnceLock::new();
        WARM.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let log = dir.path().join("apt.log");
            let script =
                format!("echo \"$@\" >> '{}'\nexec {} \"$@\"", log.display(), real("apt-get").display());
            let host = host_with_apt(&dir.path().join("bin"), &script);
            let cache = dir.path().join("ktstr");
            let rivals: Vec<_> = (0..4)
                .map(|_| {
                    // Caches of their own: the rivals share files, as processes do, and no memory.
                    let provisioner = provisioner(&cache, host.clone());
                    thread::spawn(move || provisioner.kernel(&KernelSpec::Latest).unwrap())
                })
                .collect();
            let kernels = rivals.into_iter().map(|rival| rival.join().unwrap()).collect();
            let apt_calls = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
            Warm { dir, kernels, apt_calls }
        })
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("ktstr")
    }

    /// This cache on a host whose apt fails, and where its calls are logged.
    fn offline(&self) -> (Provisioner, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "echo called >> '{}'\necho 'E: no network' >&2\nexit 100",
            dir.path().join("log").display()
        );
        let host = host_with_apt(&dir.path().join("bin"), &script);
        (provisioner(&self.cache(), host), dir)
    }
}

fn provisioner(cache: &Path, host: Host) -> Provisioner {
    Provisioner::new(Cache::at(cache).unwrap(), host, Progress::Silent).unwrap()
}

fn host(path: OsString) -> Host {
    Host { root: "/".into(), path, qemu: None, bpf_root: None }
}

/// The host with a shell script for its apt-get.
fn host_with_apt(bin: &Path, script: &str) -> Host {
    fs::create_dir_all(bin).unwrap();
    let program = bin.join("apt-get");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = env::var_os("PATH").unwrap();
    let folders = std::iter::once(bin.to_owned()).chain(env::split_paths(&path));
    host(env::join_paths(folders).unwrap())
}

fn real(program: &str) -> PathBuf {
    Host::current().find(program).unwrap()
}

fn names(folder: impl AsRef<Path>) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn count(calls: &[String], word: &str) -> usize {
    calls.iter().filter(|call| call.split(' ').any(|w| w == word) && !call.contains("--print-uris")).count()
}

/// An error and all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[test]
fn rivals_fetch_the_latest_kernel_once_and_get_the_same() {
    let warm = Warm::get();
    let first = &warm.kernels[0];
    assert!(warm.kernels.iter().all(|kernel| kernel == first));
    assert!(first.has_sched_ext);
    assert!(first.vmlinux.ends_with(format!("ktstr/kernels/{}/vmlinux", first.release)));
    assert_eq!(count(&warm.apt_calls, "update"), 1, "{:#?}", warm.apt_calls);
    assert_eq!(count(&warm.apt_calls, "download"), 1, "{:#?}", warm.apt_calls);
}

#[test]
fn a_warm_cache_needs_no_apt() {
    let warm = Warm::get();
    let kernel = &warm.kernels[0];
    let (offline, dir) = warm.offline();
    let major = kernel.release.split('.').next().unwrap();
    for asked in ["latest", major, &kernel.release] {
        let found = offline.kernel(&KernelSpec::parse(asked).unwrap()).unwrap();
        assert_eq!((&found.id, found.asked.as_str()), (&kernel.id, asked));
    }
    let spec = KernelSpec::Latest;
    assert!(offline.kernel_config(&spec, kernel, None).unwrap().is_some());
    assert!(!dir.path().join("log").exists());
    assert!(offline.list_kernels().unwrap().iter().any(|l| l.cached && l.release == kernel.release));
}

#[test]
fn a_version_that_is_not_there_lists_those_that_are() {
    let warm = Warm::get();
    let online = provisioner(&warm.cache(), host(env::var_os("PATH").unwrap()));
    let error = online.kernel(&KernelSpec::parse("1.0").unwrap()).unwrap_err();
    let latest = warm.kernels[0].release.split(['+', '-']).next().unwrap();
    let text = error.to_string();
    for part in
        ["no kernel 1.0 in the archive (trixie-backports, ", &format!("there are {latest}, "), "older ones"]
    {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn the_same_kernel_by_path_is_the_same_kernel() {
    let warm = Warm::get();
    let kernel = &warm.kernels[0];
    let dir = tempfile::tempdir().unwrap();
    let provisioner = provisioner(dir.path(), host(OsString::new()));
    let bzimage = kernel.bzimage.clone().unwrap();
    let from_bzimage = provisioner.kernel(&KernelSpec::Path(bzimage.clone())).unwrap();
    let from_vmlinux = provisioner.kernel(&KernelSpec::Path(kernel.vmlinux.clone())).unwrap();
    assert_eq!((&from_bzimage.id, &from_bzimage.release), (&kernel.id, &kernel.release));
    assert_eq!((&from_vmlinux.id, &from_vmlinux.bzimage), (&kernel.id, &None));
    assert!(from_bzimage.vmlinux.starts_with(dir.path()));

    let cut = dir.path().join("cut");
    let bytes = fs::read(&bzimage).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let before = names(dir.path().join("kernels"));
    let error = provisioner.kernel(&KernelSpec::Path(cut)).unwrap_err();
    assert!(chain(&error).contains("it is cut off: its payload ends at byte"), "{}", chain(&error));
    assert_eq!(names(dir.path().join("kernels")), before);
    assert_eq!(names(dir.path().join("staging")), BTreeSet::new());
}

/// The parent starts this test again as the process to be killed, whose apt-get sleeps in the download.
#[test]
fn a_fetch_that_is_killed_leaves_no_entry_and_the_next_succeeds() {
    if let Some(cache) = env::var_os(KILLED_CACHE) {
        let release = env::var("KTSTR_TEST_KILLED_RELEASE").unwrap();
        let provisioner = provisioner(Path::new(&cache), host(env::var_os("PATH").unwrap()));
        let _ = provisioner.kernel(&KernelSpec::parse(&release).unwrap());
        return;
    }
    let warm = Warm::get();
    let online = provisioner(&warm.cache(), host(env::var_os("PATH").unwrap()));
    // Another kernel than the one that is cached, of the small packages.
    let listings = online.list_kernels().unwrap();
    let other = listings
        .iter()
        .find(|l| {
            !l.cached
                && l.package.as_ref().is_some_and(|p| p.starts_with("linux-binary-") && p.contains("cloud"))
        })
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let started = dir.path().join("started");
    let script = format!(
        "case \"$*\" in *--print-uris*) ;; *' download '*) touch '{}'; sleep 1;; esac\nexec {} \"$@\"",
        started.display(),
        real("apt-get").display()
    );
    let slow = host_with_apt(&dir.path().join("bin"), &script);
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_fetch_that_is_killed_leaves_no_entry_and_the_next_succeeds"])
        .env("PATH", &slow.path)
        .env(KILLED_CACHE, warm.cache())
        .env("KTSTR_TEST_KILLED_RELEASE", &other.release)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !started.exists() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let entry = warm.cache().join("kernels").join(&other.release);
    assert!(!entry.exists());
    // The orphaned apt-get still has the lock, so that what it writes to is not swept away.
    let cache = Cache::at(warm.cache()).unwrap();
    assert!(cache.try_lock("apt-kernels").unwrap().is_none());
    let next = provisioner(&warm.cache(), host(env::var_os("PATH").unwrap()));
    let kernel = next.kernel(&KernelSpec::parse(&other.release).unwrap()).unwrap();
    assert_eq!(kernel.release, other.release);
    let whole = BTreeSet::from(["bzImage", "config", "kernel.json", "vmlinux"].map(str::to_owned));
    assert_eq!(names(&entry), whole);

    // Earlier releases made entries without the configuration: they get it when it is asked for.
    let spec = KernelSpec::parse(&other.release).unwrap();
    let config = next.kernel_config(&spec, &kernel, None).unwrap().unwrap();
    assert!(config.text.windows(14).any(|part| part == b"\nCONFIG_BPF=y\n"), "{config:?}");
    fs::remove_file(entry.join("config")).unwrap();
    let (offline, _dir) = warm.offline();
    assert_eq!(offline.kernel_config(&spec, &kernel, None).unwrap(), None);
    assert_eq!(next.kernel_config(&spec, &kernel, None).unwrap(), Some(config));
    assert_eq!(names(&entry), whole);
    cache.sweep().unwrap();
    assert_eq!(names(warm.cache().join("staging")), BTreeSet::new());
}

#[test]
fn a_failed_download_leaves_nothing_and_says_what_apt_said() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("ktstr");
    let host = host_with_apt(&dir.path().join("bin"), "echo 'E: Unable to reach the mirror' >&2\nexit 100");
    let error = provisioner(&cache, host).kernel(&KernelSpec::Latest).unwrap_err();
    let text = chain(&error);
    assert!(text.contains("apt-get ended with exit status: 100:\nE: Unable to reach the mirror"), "{text}");
    assert!(!cache.join("kernels").exists());
    assert_eq!(names(cache.join("staging")), BTreeSet::new());
}

#[test]
fn a_host_without_apt_is_told_what_to_supply() {
    let dir = tempfile::tempdir().unwrap();
    let provisioner = provisioner(dir.path(), host(OsString::from("/nonexistent")));
    let texts = [
        (provisioner.emulator().unwrap_err(), "KTSTR_QEMU"),
        (provisioner.kernel(&KernelSpec::Latest).unwrap_err(), "--kernel"),
        (provisioner.toolchain().unwrap_err(), "KTSTR_BPF_ROOT"),
    ];
    for (error, supply) in texts {
        assert!(matches!(error, Error::NoProgram { program: "apt-get", .. }), "{error}");
        assert!(error.to_string().contains(supply), "{error}");
    }
}

#[test]
fn a_missing_kernel_and_a_file_that_is_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let provisioner = provisioner(&dir.path().join("ktstr"), host(OsString::new()));
    let asked = |path: PathBuf| chain(&provisioner.kernel(&KernelSpec::Path(path)).unwrap_err());
    let text = asked(dir.path().join("nothing"));
    assert!(text.contains("cannot read the kernel") && text.contains("No such file"), "{text}");
    fs::write(dir.path().join("script"), "#!/bin/sh\n").unwrap();
    let text = asked(dir.path().join("script"));
    assert!(
        text.contains("script is not a kernel that can be used: it is neither an ELF file nor a bzImage"),
        "{text}"
    );
    assert!(asked(dir.path().to_owned()).contains("is no kernel source tree"));
    assert!(asked("/proc/self/exe".into()).contains("it is not an x86_64 kernel"));
}

#[test]
fn a_given_emulator_wins_and_one_that_is_too_old_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let qemu = |folder: &str, version: &str| {
        let path = dir.path().join(folder).join("qemu-system-x86_64");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\necho 'QEMU emulator version {version} (x)'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let (given, old, new) = (qemu("given", "9.2.0"), qemu("old", "7.2.22"), qemu("new", "8.1.0"));
    let find = |path: &Path, given: Option<PathBuf>| {
        let path = path.parent().unwrap().as_os_str().to_owned();
        let host = Host { qemu: given, ..host(path) };
        provisioner(&dir.path().join("ktstr"), host).emulator()
    };
    let emulator = find(&new, Some(given.clone())).unwrap();
    assert_eq!((emulator.command, emulator.version.as_str()), (vec![given], "9.2.0"));
    let emulator = find(&new, None).unwrap();
    assert_eq!((emulator.origin.as_str(), emulator.version.as_str()), ("PATH", "8.1.0"));
    // The old one is not taken: a bundle is wanted, for which this host has no apt.
    assert!(matches!(find(&old, None), Err(Error::NoProgram { .. })));
    let error = find(&new, Some("/bin/true".into())).unwrap_err();
    assert!(error.to_string().contains("does not name a QEMU version"), "{error}");
    let error = find(&new, Some("/nonexistent/qemu".into())).unwrap_err();
    assert!(error.to_string().starts_with("cannot run KTSTR_QEMU=/nonexistent/qemu; give"), "{error}");
}

#[test]
fn the_bundled_emulator_runs_on_its_own_libraries() {
    // A PATH with the package programs alone: no emulator that is installed can be taken.
    let bin = tempfile::tempdir().unwrap();
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        symlink(real(program), bin.path().join(program)).unwrap();
    }
    let host = host(bin.path().as_os_str().to_owned());
    let provisioner = Provisioner::new(Cache::open().unwrap(), host, Progress::Silent).unwrap();
    let emulator = provisioner.emulator().unwrap();
    assert_eq!(emulator.origin, "bundle");
    let output = Command::new(&emulator.command[0])
        .args(&emulator.command[1..])
        .args(["-machine", "help"])
        .envs(emulator.env.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("q35"));
}

#[test]
fn the_toolchain_compiles_bpf_and_its_bpftool_can_move_elsewhere() {
    let host = host(OsString::from("/usr/bin:/bin"));
    let provisioner = Provisioner::new(Cache::open().unwrap(), host, Progress::Silent).unwrap();
    let toolchain = provisioner.toolchain().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (source, object) = (dir.path().join("x.bpf.c"), dir.path().join("x.bpf.o"));
    fs::write(&source, "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nint counter SEC(\".bss\");\n")
        .unwrap();
    let output = toolchain
        .clang()
        .args(["-target", "bpf", "-g", "-O2", "-c", "-o"])
        .args([&object, &source])
        .arg("-I")
        .arg(toolchain.root.join("usr/include/x86_64-linux-gnu"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = toolchain.bpftool().args(["btf", "dump", "file"]).arg(&object).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("VAR 'counter'"), "{output:?}");

    let elsewhere = dir.path().join("guest");
    for file in toolchain.bpftool_files().unwrap() {
        let target = elsewhere.join(&file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(toolchain.root.join(&file), target).unwrap();
    }
    let words = ktstr_record::provision::BpfToolchain::bpftool_command(&elsewhere);
    // Without the host's libraries: whatever the closure lacks is an error here.
    let output = Command::new(&words[0])
        .arg("--inhibit-cache")
        .args(&words[1..])
        .arg("version")
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("bpftool v"));
}
