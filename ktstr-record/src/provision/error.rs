//! Why provisioning failed: what was tried, what was found, what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use super::kernel::PackageError;
use ktstr_replay::text::Candidates;

/// A result of provisioning.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an emulator, a kernel or a toolchain cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither `XDG_CACHE_HOME` nor `HOME` says where the cache is.
    #[error(
        "no place for the cache: neither XDG_CACHE_HOME nor HOME holds an absolute path; set one of them"
    )]
    NoCacheDir,
    /// The cache's path is one by which programs cannot be run.
    #[error("the cache cannot be in {}: its path {what}; set XDG_CACHE_HOME to another folder", .path.display())]
    BadCachePath {
        /// The cache.
        path: PathBuf,
        /// What its path is or has.
        what: &'static str,
    },
    /// The cache's file system does not let programs run.
    #[error(
        "programs cannot be run from {}: its file system is mounted with `noexec`; set XDG_CACHE_HOME to a folder elsewhere",
        .path.display()
    )]
    NoExec {
        /// The cache.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {doing} {path}")]
    Io {
        /// The operation, as a verb: `read`, `create`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cache's file system is too full to begin.
    #[error(
        "not enough space in {path}: fetching {what} takes {}, {} are free; free some, run `ktstr setup --clean`, or point XDG_CACHE_HOME at a larger disk",
        Mib(*.needed_bytes),
        Mib(*.free_bytes)
    )]
    NoSpace {
        /// The cache.
        path: PathBuf,
        /// What was about to be written.
        what: String,
        /// Bytes that it takes, at most.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// The cache's file system ran full while writing.
    #[error(
        "the disk ran full at {path}; free some space, run `ktstr setup --clean`, or point XDG_CACHE_HOME at a larger disk"
    )]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// A program that provisioning runs is not on the host.
    #[error("cannot get {what}: looked for `{program}` in PATH and found none; {instead}")]
    NoProgram {
        /// What was wanted.
        what: String,
        /// The program that is missing.
        program: &'static str,
        /// What the user can supply instead.
        instead: &'static str,
    },
    /// The host's apt is not configured with a Debian mirror.
    #[error(
        "cannot get {what}: no enabled entry for a Debian archive (component main) in {searched}{found}; {instead}"
    )]
    NoDebianSource {
        /// What was wanted.
        what: String,
        /// The files and folders that were read.
        searched: String,
        /// What was there instead, as ` (found ...)`.
        found: String,
        /// What the user can supply instead.
        instead: &'static str,
    },
    /// A file of apt's configuration cannot be understood.
    #[error("{path}:{line}: {message}")]
    Sources {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A program could not be started.
    #[error("cannot run {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("cannot {doing}: {program} ended with {status}{}", tail(.output))]
    Failed {
        /// What it was run for.
        doing: String,
        /// The program and its subcommand.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines that it printed.
        output: String,
    },
    /// An unpacked bundle lacks a file that it must have.
    #[error("the unpacked {what} has no {path}; the archive's packages have changed, please report this")]
    Incomplete {
        /// The bundle or package.
        what: String,
        /// The file.
        path: PathBuf,
    },
    /// A package cannot have this name.
    #[error("`{name}` is no name of a package: it is made of lower-case letters, digits, `+`, `-` and `.`")]
    PackageName {
        /// What was asked for.
        name: String,
    },
    /// A package has no program of this name.
    #[error("the package {package} and those that it depends on have no program `{binary}`{candidates}")]
    NotInPackage {
        /// The package.
        package: String,
        /// The program.
        binary: String,
        /// Those that there are.
        candidates: Candidates,
    },
    /// A program of a package cannot be started by the bundle's loader.
    #[error(
        "`{binary}` of the package {package} is {what}; only 64-bit x86 programs of packages are run: install it, so that it is on PATH, \
         or give its path as `binary`"
    )]
    PackageScript {
        /// The package.
        package: String,
        /// The program.
        binary: String,
        /// What it is.
        what: &'static str,
    },
    /// The emulator that the user gave cannot be started.
    #[error("cannot run KTSTR_QEMU={program}; give the path of a qemu-system-x86_64 program, or unset it")]
    GivenEmulator {
        /// The value of `KTSTR_QEMU`.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An emulator's `--version` is not understood.
    #[error("`{program} --version` does not name a QEMU version, it printed {output:?}; {instead}")]
    NotQemu {
        /// The program.
        program: PathBuf,
        /// The first line of its output.
        output: String,
        /// What to do.
        instead: &'static str,
    },
    /// A toolchain that the user gave lacks a program.
    #[error(
        "KTSTR_BPF_ROOT={root} has no {missing}; give a folder with Debian 13's clang-19, lld-19, bpftool, libbpf-dev, libelf-dev, zlib1g-dev, libzstd-dev and libc6-dev (`/` where they are installed)", root = .root.display()
    )]
    BadBpfRoot {
        /// The folder that was given.
        root: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },
    /// A package of the registry does not build.
    #[error(
        "{spec} does not build: {program} ended with {status}{}\nschedulers of the registry need libraries and programs: {instead}", tail(.output)
    )]
    CrateBuild {
        /// The package and version.
        spec: String,
        /// The cargo that was run.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines that it printed.
        output: String,
        /// What the host could install in place of what is missing.
        instead: &'static str,
    },
    /// The registry has no such package, or no such version of it.
    #[error("there is no {spec} in the package registry{}\ncorrect the name or the version: `cargo info {name}` tells the newest one", tail(.output))]
    NoCrate {
        /// The package and version.
        spec: String,
        /// The package.
        name: String,
        /// The last lines that cargo printed.
        output: String,
    },
    /// An installed package has no program, or several and none of its name.
    #[error("{spec} has {}; name the one that is meant by `binary_path`", no_program(.found))]
    CrateProgram {
        /// The package and version.
        spec: String,
        /// The names of its programs.
        found: Vec<String>,
    },
    /// The text of `--kernel` is not one of its forms.
    #[error(
        "kernel {asked:?} is neither a file, nor a version (`7`, `7.3`, `7.3.4` or a whole release), nor `latest`{}; `ktstr kernel list` lists the available ones",
        if .asked.contains("..") { ", and a range of versions is taken by `cargo ktstr test --kernel` alone" } else { "" }
    )]
    BadKernelSpec {
        /// What was asked for.
        asked: String,
    },
    /// A text that is not a range of kernels.
    #[error(
        "{asked:?} is no range of kernels: {why}; write it as `7.0..7.3` (7.3 is in it), `7.1..` or `..7.2`"
    )]
    BadKernelRange {
        /// What was asked for.
        asked: String,
        /// What is wrong with it.
        why: String,
    },
    /// No kernel of a range can be had.
    #[error("no kernel with sched_ext in the range {asked}: {}; {}", found.join("; "), "`ktstr kernel list` lists the available ones")]
    EmptyRange {
        /// The range.
        asked: String,
        /// Which parts of it there are, and which are missing.
        found: Vec<String>,
    },
    /// A kernel package is not one, or has no kernel.
    #[error("cannot take a kernel out of {path}")]
    Package {
        /// The package.
        path: PathBuf,
        /// Why.
        #[source]
        source: PackageError,
    },
    /// A source tree in which nothing was built.
    #[error(
        "{folder} is a source tree of Linux {version} that was not built: there is neither arch/x86/boot/bzImage nor vmlinux{found}; run \
         `make` in it, or let ktstr build it: `cargo ktstr test --build --kernel {folder}` or `ktstr kernel build {folder}`"
    )]
    NotBuilt {
        /// The tree.
        folder: PathBuf,
        /// Its version, by its Makefile.
        version: String,
        /// What was built in it instead, as `; it was ...`.
        found: String,
    },
    /// A folder that is no source tree.
    #[error(
        "{folder} is no kernel source tree (there is no Makefile with a VERSION beside Kconfig and arch/x86) and no build folder \
         (there is no arch/x86/boot/bzImage); it has {}", match found.as_slice() { [] => "nothing".to_owned(), some => some.join(", ") }
    )]
    NotATree {
        /// The folder.
        folder: PathBuf,
        /// The first of what is in it.
        found: Vec<String>,
    },
    /// A source tree does not take the options that tests need.
    #[error(
        "{tree}: make left out what tests need: {}; these depend on other options, or on programs (CONFIG_DEBUG_INFO_BTF on pahole), see \
         {config}", missing.join(", ")
    )]
    BuildConfig {
        /// The tree.
        tree: PathBuf,
        /// The options.
        missing: Vec<String>,
        /// The configuration that make wrote.
        config: PathBuf,
    },
    /// A kernel's file does not exist or cannot be read.
    #[error(
        "cannot read the kernel {path}; give the path of a bzImage, a vmlinux ELF, a kernel package or a source tree, a version, or `latest`"
    )]
    KernelFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive has no such part of a kernel's source.
    #[error(
        "there is no {wanted} in the source of kernel {release}: the archive has the sources of its own kernels, as linux-source-MAJOR.MINOR"
    )]
    NoSource {
        /// `uname -r`.
        release: String,
        /// The file or folder.
        wanted: String,
    },
    /// A file is not a kernel's configuration, or cannot be read.
    #[error("cannot use {path} as the kernel's configuration: {why}")]
    KernelConfig {
        /// The file.
        path: PathBuf,
        /// What it lacks, or what the system said.
        why: String,
    },
    /// A file is not a kernel that can be booted and read.
    #[error("{path} is not a kernel that can be used: {source}")]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ImageError,
    },
    /// No kernel of the archive fits.
    #[error("no kernel {asked} in the archive ({searched}){}; {hint}", there_are(.available))]
    NoSuchKernel {
        /// What was asked for.
        asked: String,
        /// The suites that were searched.
        searched: String,
        /// The versions that are there, newest first.
        available: Vec<String>,
        /// What to do.
        hint: &'static str,
    },
    /// The newest kernels that fit are all built without sched_ext.
    #[error(
        "kernel {asked}: of those that fit, {} built without sched_ext (CONFIG_SCHED_CLASS_EXT); ask for a newer version, or name a whole version (as `6.12.94`) to use one without BPF schedulers",
        match .without.as_slice() { [one] => format!("{one} is"), many => format!("{} are", many.join(", ")) }
    )]
    NoSchedExt {
        /// What was asked for.
        asked: String,
        /// The releases that were looked at.
        without: Vec<String>,
    },
    /// A program for another kind of processor would be needed.
    #[error("cannot get {what}: bundles are for x86_64 hosts, this one is {arch}; {instead}")]
    Arch {
        /// What was wanted.
        what: String,
        /// The host's processor.
        arch: &'static str,
        /// What the user can supply instead.
        instead: &'static str,
    },
}

impl Error {
    /// Makes an [`io::Error`] that happened to `path` into ours: a full disk is told apart.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::DiskFull { path: path.to_owned() }
            }
            _ => Error::Io { doing, path: path.to_owned(), source },
        }
    }
}

fn tail(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(":\n{output}") }
}

fn no_program(found: &[String]) -> String {
    match found {
        [] => "no program".to_owned(),
        many => format!("several programs and none of its name: {}", many.join(", ")),
    }
}

fn there_are(versions: &[String]) -> String {
    if versions.is_empty() {
        ", which has none".to_owned()
    } else {
        format!("; there are {}", versions.join(", "))
    }
}

/// Why a file cannot serve as a kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It is a device, a pipe or a socket.
    #[error("it is no regular file; give a bzImage, a vmlinux, a kernel package or a source tree")]
    NotAFile,
    /// It is neither of the two formats.
    #[error("it is neither an ELF file nor a bzImage (it begins with {})", hex(.start))]
    Format {
        /// Its first bytes.
        start: Vec<u8>,
    },
    /// It is a bzImage from before 2008.
    #[error("its boot protocol {}.{:02} is older than 2.08, the first that says where the payload is", .version >> 8, .version & 0xff)]
    Protocol {
        /// The version, major in the high byte.
        version: u16,
    },
    /// Its end is missing.
    #[error("it is cut off: its {part} ends at byte {end}, the file at {size}; copy or build it again")]
    Truncated {
        /// What lies beyond the end.
        part: &'static str,
        /// Where that would end.
        end: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// Its payload is compressed in a way that is not read.
    #[error(
        "its payload is compressed with {name}, which is not supported (zstd, gzip, xz, lzma and lz4 are); build with CONFIG_KERNEL_ZSTD=y or give its vmlinux"
    )]
    Compression {
        /// The compression, or the payload's first bytes.
        name: String,
    },
    /// Its payload cannot be decompressed.
    #[error("its {format} payload cannot be decompressed")]
    Payload {
        /// The compression.
        format: &'static str,
        /// What the decompressor says.
        source: io::Error,
    },
    /// Its payload declares a size that no kernel has.
    #[error("its payload declares {declared} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Bytes that it declares.
        declared: u64,
        /// The most that is decompressed.
        limit: u64,
    },
    /// Its payload has another size than it says.
    #[error("its payload decompresses to {found} bytes where it declares {declared}; copy or build it again")]
    Size {
        /// Bytes that it declares.
        declared: u64,
        /// Bytes that came out, at most one more than declared.
        found: u64,
    },
    /// It cannot be read as an ELF file.
    #[error("its ELF structure is broken")]
    Elf(#[source] object::Error),
    /// It is a kernel for another processor, or no kernel.
    #[error("it is not an x86_64 kernel (ELF machine {machine}, type {kind})")]
    Machine {
        /// `e_machine`.
        machine: u16,
        /// `e_type`.
        kind: u16,
    },
    /// It does not say which release it is.
    #[error("it has no `Linux version` text, so it is no kernel; give a vmlinux or bzImage")]
    NoBanner,
    /// It has no type information.
    #[error("it has no BTF, without which its memory cannot be read; build with CONFIG_DEBUG_INFO_BTF=y")]
    NoBtf,
    /// Its type information is damaged, or of a form that is not read.
    #[error("its BTF cannot be read: {why}")]
    BrokenBtf {
        /// What is wrong with it.
        why: String,
    },
    /// It cannot be entered as an ELF.
    #[error(
        "it has no PVH entry, so that it can only boot through a bzImage's own loader; build with CONFIG_PVH=y"
    )]
    NoPvh,
}

/// Bytes, shown in MiB.
#[derive(Clone, Copy)]
pub(super) struct Mib(pub(super) u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0.div_ceil(1 << 20))
    }
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing, it is empty".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
