//! Building C schedulers with the provisioned toolchain, for the provisioned kernel.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::SystemTime;

use ktstr_record::provision::{BpfToolchain, Cache, KernelSpec, Provisioner};
use ktstr_record::scheduler::{BuildError, build_c};
use ktstr_record::spec::Kernel;
use object::Object;
use tempfile::TempDir;

/// A copy of scx_demo that may be damaged, an empty cache, and what builds are made with.
struct Bench {
    sources: TempDir,
    _cache_folder: TempDir,
    cache: Cache,
    kernel: Kernel,
    toolchain: BpfToolchain,
}

impl Bench {
    fn new() -> Self {
        let sources = tempfile::tempdir().expect("a folder");
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("scx_demo");
        for entry in fs::read_dir(original).expect("scx_demo") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), sources.path().join(entry.file_name())).expect("a copy");
        }
        let provisioner = Provisioner::open().expect("provisioning");
        let asked = env::var("KTSTR_KERNEL").unwrap_or_else(|_| "latest".to_owned());
        let spec = KernelSpec::parse(&asked).expect("a kernel");
        let cache_folder = tempfile::tempdir().expect("a folder");
        Self {
            sources,
            cache: Cache::at(cache_folder.path()).expect("a cache"),
            _cache_folder: cache_folder,
            kernel: provisioner.kernel(&spec).expect("the kernel"),
            toolchain: provisioner.toolchain().expect("the toolchain"),
        }
    }

    fn build(&self) -> Result<PathBuf, BuildError> {
        build_c(self.sources.path(), "scx_demo", &self.kernel, &self.toolchain, &self.cache)
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.sources.path().join(file);
        let text = fs::read_to_string(&path).expect("a source");
        assert!(text.contains(from), "no {from} in {file}");
        fs::write(&path, text.replace(from, to)).expect("a source");
    }

    /// Finished builds of the scheduler, with the time at which each was made.
    fn builds(&self) -> Vec<(PathBuf, SystemTime)> {
        let entries = fs::read_dir(self.cache.path("bpf")).into_iter().flatten().flatten();
        let builds = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("scx_demo-"));
        builds
            .map(|entry| (entry.path(), entry.metadata().and_then(|data| data.modified()).expect("a time")))
            .collect()
    }
}

#[test]
fn a_scheduler_is_built_once_for_all_who_ask() {
    let bench = Bench::new();
    let programs: Vec<PathBuf> = thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(|| bench.build().expect("a program"))).collect();
        builds.into_iter().map(|build| build.join().expect("a build")).collect()
    });
    assert!(programs.iter().all(|program| *program == programs[0]), "{programs:?}");
    let built = bench.builds();
    assert_eq!(built.len(), 1, "{built:?}");
    assert_eq!(bench.build().expect("a program"), programs[0]);
    assert_eq!(bench.builds(), built, "it was built again");

    // A static program: the guest has no libraries.
    let help = Command::new(&programs[0]).arg("--help").env_clear().output().expect("the loader starts");
    assert!(String::from_utf8_lossy(&help.stdout).contains("--stall-after-ms"), "{help:?}");
    let bytes = fs::read(&programs[0]).expect("the program");
    let elf = object::File::parse(&*bytes).expect("an ELF file");
    assert!(elf.section_by_name(".interp").is_none(), "it wants a dynamic loader");
}

#[test]
fn changed_sources_are_built_anew() {
    let bench = Bench::new();
    let first = bench.build().expect("a program");
    bench.replace("scx_demo.c", "length of a time slice", "how long a time slice is");
    let second = bench.build().expect("a program");
    assert_ne!(first, second);
    let help = Command::new(second).arg("--help").output().expect("the loader starts");
    assert!(String::from_utf8_lossy(&help.stdout).contains("how long a time slice is"), "{help:?}");
}

#[test]
fn a_compile_error_is_shown_with_its_line_and_leaves_nothing() {
    let bench = Bench::new();
    for (file, from, to, says) in [
        ("scx_demo.bpf.c", "COUNT(nr_tasks);", "COUNT(nr_taskz);", "undeclared identifier 'nr_taskz'"),
        ("scx_demo.c", "skel->maps.demo_ops", "skel->maps.demo_op", "no member named 'demo_op'"),
    ] {
        bench.replace(file, from, to);
        let error = bench.build().expect_err(file).to_string();
        assert!(error.starts_with("cannot compile ") && error.contains(file), "{error}");
        assert!(error.contains(says), "{error}");
        bench.replace(file, to, from);
    }
    assert_eq!(bench.builds(), []);
    assert_eq!(fs::read_dir(bench.cache.path("staging")).expect("staging").count(), 0);
    bench.build().expect("the sources are whole again");
}

#[test]
fn a_kernel_without_types_is_refused() {
    let mut bench = Bench::new();
    // An ELF program, but no kernel.
    bench.kernel.vmlinux = env::current_exe().expect("this test");
    let error = bench.build().expect_err("no BTF");
    assert!(matches!(error, BuildError::NoBtf { .. }), "{error}");
}
