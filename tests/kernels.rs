//! Kernels of the user's own, and several of them: packages, source trees, two kernels in one run of tests.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_record::provision::{KernelCheck, KernelRange, KernelSpec, Provisioner};
use ktstr_record::spec::{Kernel, KernelConfig};
use ktstr_replay::trace::record::manifest::StartInfo;
use ktstr_tests::{Ended, cargo_ktstr, fixture, ktstr, run_bounded};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(900);

#[ktstr_test(ignore, duration_s = 1)]
fn small(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

/// The kernel of this run, with its configuration.
fn kernel() -> (Kernel, KernelConfig) {
    let spec = env::var("KTSTR_KERNEL").unwrap_or_else(|_| "latest".to_owned());
    let spec = KernelSpec::parse(&spec).expect("a kernel");
    let provisioner = Provisioner::open().expect("a cache");
    let kernel = provisioner.kernel(&spec).expect("a kernel");
    let config = provisioner.kernel_config(&spec, &kernel, None).expect("readable").expect("of the archive");
    (kernel, config)
}

/// What is known of that kernel: not every kernel of the archive is sound.
fn known() -> KernelCheck {
    let (kernel, config) = kernel();
    Provisioner::open().expect("a cache").check_kernel(&kernel, Some(&config)).expect("readable")
}

/// How `ktstr kernel check` ends for it.
fn exit_code(known: &KernelCheck) -> i32 {
    i32::from(!known.faults().is_empty())
}

/// A package as pacman has it, of that kernel.
fn package(path: &Path, arch: &str) {
    let (kernel, config) = kernel();
    let image = fs::read(kernel.bzimage.expect("a bzImage")).expect("the image");
    let about = format!("pkgname = linux\narch = {arch}\n");
    let modules = format!("usr/lib/modules/{}", kernel.release);
    let out = zstd::Encoder::new(File::create(path).expect("a file"), 1).expect("an encoder");
    let mut package = tar::Builder::new(out);
    for (name, content) in [
        (".PKGINFO".to_owned(), about.as_bytes()),
        (format!("{modules}/vmlinuz"), &image),
        (format!("{modules}/config"), &config.text),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        package.append_data(&mut header, name, content).expect("a member");
    }
    package.into_inner().expect("written").finish().expect("compressed");
}

/// `ktstr kernel ...` with a cache of its own.
fn kernel_command(cache: &TempDir, words: &[&str]) -> Command {
    let mut command = ktstr();
    command.arg("kernel").args(words).env("XDG_CACHE_HOME", cache.path());
    command
}

fn run(command: &mut Command) -> Ended {
    run_bounded(command, LIMIT)
}

fn json(ended: &Ended) -> serde_json::Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}:\n{ended}"))
}

/// The kernel of a package is the same wherever the package lies: a second run restores the machine that the first has saved.
#[test]
fn a_package_is_booted_and_its_content_is_what_it_is_known_by() {
    let (first, second) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let (path, copy) = (first.path().join("linux.pkg.tar.zst"), second.path().join("other-name"));
    package(&path, "x86_64");
    let run = fixture("small").env("KTSTR_KERNEL", &path).run();
    assert!(run.status.success(), "{run}");
    let of_first = run.trace().manifest().expect("a manifest").kernel.clone();
    fs::rename(&path, &copy).expect("renamed");
    let run = fixture("small").env("KTSTR_KERNEL", &copy).run();
    assert!(run.status.success(), "{run}");
    let manifest = run.trace().manifest().expect("a manifest").clone();
    assert_eq!((&manifest.kernel.release, &manifest.kernel.xxh3), (&of_first.release, &of_first.xxh3));
    assert_eq!(manifest.kernel.xxh3, kernel().0.id, "the package has the very kernel");
    assert_eq!(manifest.machine.start.expect("a start").how, StartInfo::RESTORED, "{run}");
}

#[test]
fn a_package_is_checked_and_listed_without_a_boot() {
    let (cache, folder) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let path = folder.path().join("linux.pkg.tar.zst");
    package(&path, "x86_64");
    let path = path.to_str().expect("text");
    let checked = run(&mut kernel_command(&cache, &["check", path, "--json"]));
    let known = known();
    assert_eq!(checked.status.code(), Some(exit_code(&known)), "{checked}");
    let found = json(&checked);
    assert_eq!(found["faults"], serde_json::json!(known.faults()));
    assert_eq!(found["release"], serde_json::json!(known.release));
    assert_eq!(found["hidden_arguments"], serde_json::json!(known.hidden_arguments));
    assert_eq!(found["options"], serde_json::json!(known.options));
    let options = found["options"].as_array().expect("options");
    assert!(
        options.iter().any(|option| option["option"] == "CONFIG_SCHED_CLASS_EXT" && option["value"] == "y")
    );
    // Who fetches it is told at once, but for what its configuration says: that is not looked for.
    let fetched = json(&run(&mut kernel_command(&cache, &["fetch", path, "--json"])));
    let of_btf = KernelCheck { config: None, options: Vec::new(), ..known.clone() }.faults();
    assert_eq!(fetched["faults"], serde_json::json!(of_btf), "{fetched}");
    let text = run(&mut kernel_command(&cache, &["fetch", path])).stdout;
    assert_eq!(text.matches("FAULT").count(), of_btf.len(), "{text}");
    let listed = json(&run(&mut kernel_command(&cache, &["list", "--cached", "--json"])));
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!((&listed[0]["source"], &listed[0]["check"]["options"]), (&path.into(), &found["options"]));
    let table = run(&mut kernel_command(&cache, &["list", "--cached"])).stdout;
    let btf = match known.hidden_arguments.len() {
        0 => "sound".to_owned(),
        kfuncs => format!("{kfuncs} kfuncs wrong"),
    };
    let config = match known.lacks().count() {
        0 => "complete".to_owned(),
        lacks => format!("lacks {lacks}"),
    };
    for cell in [btf.as_str(), config.as_str(), path] {
        assert!(table.contains(cell), "no {cell:?}:\n{table}");
    }
    let mut clean = cargo_ktstr();
    let cleaned = run(clean.args(["setup", "--clean"]).env("XDG_CACHE_HOME", cache.path()));
    assert!(cleaned.status.success() && cleaned.stdout.contains("kernels"), "{cleaned}");
    let listed = json(&run(&mut kernel_command(&cache, &["list", "--cached", "--json"])));
    assert_eq!(listed.as_array().map(Vec::len), Some(0), "emptied");
    assert!(fs::exists(path).expect("known"), "what is not the cache's stays");
}

/// A configuration that lacks what schedulers need makes exit code 1, and says what.
#[test]
fn what_a_configuration_lacks_is_a_fault() {
    let (cache, folder) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let (kernel, config) = kernel();
    let text =
        String::from_utf8_lossy(&config.text).replace("CONFIG_BPF_JIT=y", "").replace("CONFIG_NUMA=y", "");
    let lacking = folder.path().join("config");
    fs::write(&lacking, text).expect("a file");
    let image = kernel.bzimage.expect("a bzImage");
    let words = ["check", image.to_str().expect("text"), "--kernel-config", lacking.to_str().expect("text")];
    let checked = run(&mut kernel_command(&cache, &words));
    assert_eq!(checked.status.code(), Some(1), "{checked}");
    assert!(checked.stdout.contains("FAULT") && checked.stdout.contains("CONFIG_BPF_JIT"), "{checked}");
    assert!(checked.stdout.contains("without CONFIG_NUMA: topologies"), "{checked}");
}

/// A tree that stands in for Linux: what make "builds" is a kernel that is there already.
fn tree(folder: &Path) {
    let (kernel, config) = kernel();
    fs::create_dir_all(folder.join("arch/x86/boot")).expect("folders");
    fs::write(folder.join("Kconfig"), "").expect("a file");
    fs::write(folder.join(".gitignore"), ".*\n*.o\n/arch/x86/boot/bzImage\n").expect("a file");
    fs::write(folder.join(".config"), &config.text).expect("a file");
    let makefile = format!(
        "VERSION = 7\nPATCHLEVEL = 3\nolddefconfig:\n\ttest -n \"$(KCONFIG_CONFIG)\"\nbzImage:\n\
         \tcp --force {} arch/x86/boot/bzImage\n\techo built >> times.o\n",
        kernel.bzimage.expect("a bzImage").display()
    );
    fs::write(folder.join("Makefile"), makefile).expect("a file");
}

#[test]
fn a_source_tree_is_used_as_it_was_built_or_is_built_once() {
    let (cache, folder) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    tree(folder.path());
    let path = folder.path().to_str().expect("text");
    let unbuilt = run(&mut kernel_command(&cache, &["check", path]));
    assert_eq!(unbuilt.status.code(), Some(3), "{unbuilt}");
    assert!(
        unbuilt.stderr.contains("source tree of Linux 7.3.0") && unbuilt.stderr.contains("--build"),
        "{unbuilt}"
    );
    let built = run(&mut kernel_command(&cache, &["build", path, "--json"]));
    assert!(built.status.success(), "{built}");
    for told in ["with its .config and over it", "CONFIG_SCHED_CLASS_EXT=y", "make -j"] {
        assert!(built.stderr.contains(told), "`{told}` is not told:\n{built}");
    }
    assert_eq!(json(&built)["id"], kernel().0.id);
    let again = run(&mut kernel_command(&cache, &["build", path, "--json"]));
    assert_eq!(json(&again)["vmlinux"], json(&built)["vmlinux"]);
    assert!(again.stderr.contains("was built before"), "{again}");
    let times = || fs::read_to_string(folder.path().join("times.o")).expect("a count").lines().count();
    assert_eq!(times(), 1);
    let named = run(kernel_command(&cache, &["build", path]).env("LOCALVERSION", "-of-this-test"));
    assert!(named.status.success(), "{named}");
    assert_eq!(times(), 2, "another release is another kernel: {named}");
    let checked = run(&mut kernel_command(&cache, &["check", path, "--json"]));
    assert_eq!(checked.status.code(), Some(exit_code(&known())), "{checked}");
    let config = json(&checked)["config"].as_str().expect("a configuration").to_owned();
    assert!(config.ends_with("/.config"), "{checked}");
}

#[test]
fn what_is_no_kernel_says_what_was_found_and_what_to_do() {
    let (cache, folder) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let make = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("a file");
        path.to_str().expect("text").to_owned()
    };
    let other = folder.path().join("arm.pkg.tar.zst");
    package(&other, "aarch64");
    let whole = fs::read(&other).expect("a package");
    let elf = fs::read("/proc/self/exe").expect("this program");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).expect("a folder");
    for (kernel, words) in [
        ("/no/such/file".to_owned(), &["/no/such/file", "a kernel package or a source tree"][..]),
        ("/dev/zero".to_owned(), &["no regular file"]),
        (make("text", b"hello"), &["neither an ELF file nor a bzImage"]),
        (make("program", &elf), &["not an x86_64 kernel"]),
        (make("cut.deb", b"!<arch>\ndebian-binary"), &["cannot take a kernel out of", "download it again"]),
        (
            make("cut.rpm", &[0xed, 0xab, 0xee, 0xdb, 3, 0]),
            &["cannot take a kernel out of", "its lead cannot be read"],
        ),
        (make("cut.pkg.tar.zst", &whole[..whole.len() / 2]), &["cannot be read; download it again"]),
        (other.to_str().expect("text").to_owned(), &["it is for aarch64"]),
        (empty.to_str().expect("text").to_owned(), &["no kernel source tree", "it has nothing"]),
        ("7.0..7.3".to_owned(), &["a range of versions is taken by `cargo ktstr test --kernel`"]),
    ] {
        let ended = run(&mut kernel_command(&cache, &["check", &kernel]));
        assert_eq!(ended.status.code(), Some(3), "{kernel}: {ended}");
        for word in words {
            assert!(ended.stderr.contains(word), "{kernel}: `{word}` is not said:\n{ended}");
        }
    }
    let staged = fs::read_dir(cache.path().join("ktstr/staging")).expect("a folder").count();
    let kernels = fs::read_dir(cache.path().join("ktstr/kernels")).into_iter().flatten().count();
    assert_eq!((staged, kernels), (0, 0), "something half-made is left");
    for (words, told) in [
        (["--kernel", "7.3..7.0"], "the wrong way round"),
        (["--kernel", "7.a.."], "no version of one to three numbers"),
    ] {
        let ended =
            run(cargo_ktstr().args(["test", "nothing"]).args(words).env("XDG_CACHE_HOME", cache.path()));
        assert_eq!(ended.status.code(), Some(3), "{ended}");
        assert!(ended.stderr.contains(told), "{ended}");
    }
}

/// Each kernel is a pass. What a scheduler is not for is skipped, and says so; the exit code is the worst.
#[test]
fn tests_run_on_two_kernels_and_a_table_says_how_they_went() {
    let provisioner = Provisioner::open().expect("a cache");
    let older = ["6.16", "6.17", "6.18", "6.19", "7.0", "7.2"]
        .into_iter()
        .find_map(|version| provisioner.kernel(&KernelSpec::parse(version).expect("a version")).ok());
    let older = older.expect("an older kernel with sched_ext").release;
    // Whatever the kernel of this run is: one that scheduler `newer` is for and loads on.
    let range = KernelRange::parse("7.3..").expect("a range");
    let mut newest_first = provisioner.select_kernels(&range).expect("kernels").kernels.into_iter().rev();
    let loads = |kernel: &Kernel| {
        provisioner.check_kernel(kernel, None).expect("readable").hidden_arguments.is_empty()
    };
    let newer = newest_first.find(loads).expect("a kernel from 7.3 on whose types are sound");
    // By its path, which is a kernel by its content; and twice, which is run once.
    let folder = TempDir::new().expect("a folder");
    let link = folder.path().join("bzImage");
    symlink(newer.bzimage.expect("a bzImage"), &link).expect("a link");
    let mut tests = cargo_ktstr();
    tests.args(["test", "two_kernels", "-p", "ktstr-tests", "--kernel", &older]).arg("--kernel").arg(&link);
    tests.arg("--kernel").arg(&link).args(["--", "--", "--include-ignored"]).env_remove("KTSTR_KERNEL");
    tests.env_remove("KTSTR_KERNEL_CONFIG");
    let ended = run(tests.current_dir(env!("CARGO_MANIFEST_DIR")));
    assert!(matches!(ended.status.code(), Some(100 | 101)), "the older kernel's failure counts: {ended}");
    let release = &newer.release;
    let lines: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in [
        vec!["test", &older, release],
        vec!["two_kernels::fails_on_older", "FAIL", "PASS"],
        vec!["two_kernels::for_newer", "SKIP", "PASS"],
    ] {
        assert!(lines.contains(&line), "no line {line:?}:\n{ended}");
    }
    let why = format!("SKIP for_newer: scheduler `newer` is for kernels 7.3.., and this one is {older}");
    assert!(ended.stdout.contains(&why), "{ended}");
    assert!(ended.stderr.contains("is the same kernel as"), "{ended}");
    let traces: Vec<PathBuf> = ended
        .stdout
        .lines()
        .filter_map(|line| line.split_once("ktstr replay ")?.1.strip_suffix(" --assert"))
        .map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .collect();
    assert_eq!(traces.len(), 4, "{ended}");
    let skipped = traces.iter().find(|path| {
        path.to_string_lossy().contains(&older)
            && path.ends_with("ktstr-tests.two_kernels.for_newer.trace.zst")
    });
    let skipped = skipped.unwrap_or_else(|| panic!("no trace of what was skipped:\n{ended}"));
    let replayed = run(ktstr().arg("replay").arg(skipped).arg("--assert"));
    assert_eq!(replayed.status.code(), Some(0), "{replayed}");
    assert!(replayed.stdout.starts_with(&why), "{replayed}");
}

/// On 6.1 most stacks were empty, and nothing said why.
#[test]
fn stacks_of_a_kernel_whose_unwind_tables_cannot_be_read_say_which_are_absent() {
    // What the numbers in the tables mean is said by a kernel since 6.4.
    let says = |release: &str| {
        let mut numbers = release.split('.').map(|number| number.parse::<u32>().ok());
        numbers.next().flatten() > Some(6) || numbers.next().flatten() >= Some(4)
    };
    let listed = Provisioner::open().expect("a cache").list_kernels().expect("the archive's kernels");
    let Some(old) = listed.iter().find(|kernel| kernel.source.is_none() && !says(&kernel.release)) else {
        return println!("not run: neither archive nor cache has a kernel before 6.4");
    };
    let run = fixture("small").env("KTSTR_KERNEL", &old.release).run();
    assert!(run.status.success(), "{run}");
    let shown = |words: &[&str]| {
        let shown =
            run_bounded(ktstr().arg("replay").arg(run.trace_path()).arg("--stacks").args(words), LIMIT);
        assert!(shown.status.success(), "{shown}");
        shown.stdout
    };
    let why = format!(
        "kernel {} has no unwind tables that can be used: .orc_header, which says what the numbers in .orc_unwind mean, is absent",
        old.release
    );
    let text = shown(&[]);
    assert_eq!(text.matches(&why).count(), 1, "once, and not with each task:\n{text}");
    // A line of text has room for so much.
    let json = shown(&["--json"]);
    assert!(json.contains(&format!("{why}; Linux has it since 6.4")), "{json}");
}
