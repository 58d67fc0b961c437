//! What schedulers of the package registry are built with beside a compiler: libelf, zlib and libseccomp, protoc, pkg-config,
//! and a libclang for their build scripts. The host's, where it has all of it; else packages of its own release in the cache, as
//! what is built runs with the host's libc.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Purpose;
use super::bundle::{LIBRARIES, Recipe, Suite};
use super::error::{Error, Result};
use super::host::{Context, Host};
use super::toolchain::write_starter;
use crate::elf::needs;

/// The oldest libclang and clang that the schedulers' build scripts take: older ones do not know `-mcpu=v4`.
pub(super) const OLDEST_CLANG: u32 = 18;

/// What to install where the archive cannot be asked.
pub(super) const INSTEAD: &str = "on Debian install libelf-dev, zlib1g-dev, libseccomp-dev, pkg-config, protobuf-compiler and a \
                                  libclang of version 18 or newer (libclang-19-dev)";

const RECIPE: Recipe<'static> = Recipe {
    purpose: Purpose { name: "host", what: "the libraries for schedulers of the registry", instead: INSTEAD },
    suite: Suite::OfHost,
    name: "crate-libraries",
    packages: &["libelf-dev", "zlib1g-dev", "libseccomp-dev", "protobuf-compiler", "pkg-config"],
    // libclang looks for its headers beside itself.
    numbered: &["libclang1-#", "libclang-common-#-dev"],
    newest: &[],
    required: &[PROTOC, PKG_CONFIG, "usr/include/libelf.h", "usr/include/zlib.h", "usr/include/seccomp.h"],
};

const PROTOC: &str = "usr/bin/protoc";
const PKG_CONFIG: &str = "usr/bin/pkg-config";
/// Where headers are.
const INCLUDE: &str = "usr/include";
/// Headers that build scripts include, and what those include.
const HEADERS: [&str; 7] =
    ["libelf.h", "gelf.h", "elfutils", "zlib.h", "zconf.h", "seccomp.h", "seccomp-syscalls.h"];
/// Libraries that schedulers are linked with.
const LINKED: [&str; 3] = ["libelf.so", "libz.so", "libseccomp.so"];
/// Folders of libraries below a root: with and without a merged `/usr`.
const FOLDERS: [&str; 2] = [LIBRARIES, "lib/x86_64-linux-gnu"];
/// Where each LLVM has its folder.
const LLVMS: &str = "usr/lib";
/// The host's own libc serves the programs that load these libraries: two versions of its parts do not go together.
const OF_LIBC: [&str; 10] = [
    "ld-linux-x86-64.so.2",
    "libanl.so.1",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libmvec.so.1",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libutil.so.1",
];

/// Whether the host has all of it, as far as can be seen without a build. A libclang that the user names in `LIBCLANG_PATH` is
/// the user's choice.
pub(super) fn host_has_them(host: &Host, libclang_is_given: bool) -> bool {
    HEADERS.iter().all(|name| header(&host.root, name).is_some())
        && ["protoc", "pkg-config"].iter().all(|program| host.find(program).is_some())
        && (libclang_is_given || llvm(&host.root).is_some())
}

/// Debian has the headers that differ between architectures, zconf.h among them, in a folder of their own.
fn header(root: &Path, name: &str) -> Option<PathBuf> {
    let folders = [root.join(INCLUDE), root.join(INCLUDE).join("x86_64-linux-gnu")];
    folders.iter().map(|folder| folder.join(name)).find(|path| path.exists())
}

/// The folder of the newest LLVM below `root` that has a libclang which will do.
fn llvm(root: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(root.join(LLVMS)).ok()?.flatten().map(|entry| entry.path());
    let version = |folder: &PathBuf| folder.file_name()?.to_str()?.strip_prefix("llvm-")?.parse::<u32>().ok();
    folders
        .filter(|folder| {
            version(folder) >= Some(OLDEST_CLANG) && libclang_file(&folder.join("lib")).is_some()
        })
        .max_by_key(version)
}

/// Whether a file of this name is libclang. What has its C++ interface is another library.
fn is_libclang(name: &str) -> bool {
    (name.starts_with("libclang-") || name.starts_with("libclang.so")) && !name.starts_with("libclang-cpp")
}

/// The libraries in the cache, fetched into it if need be.
pub(super) fn fetched(context: &Context) -> Result<CrateLibraries> {
    let bundle = RECIPE
        .get(context, false, |bundle| CrateLibraries { root: bundle.root.clone() }.llvm().map(|_| None))?;
    Ok(CrateLibraries { root: bundle.root })
}

/// Libraries of the host's release below a folder that is laid out as `/`.
#[derive(Clone, Debug)]
pub(super) struct CrateLibraries {
    root: PathBuf,
}

impl CrateLibraries {
    /// Has `command`, a cargo, and the build scripts that it runs take these libraries. What they need of files with other
    /// places than the packages have is made in `folder`, which has to outlive the programs that are built: these look for
    /// their libraries there.
    pub(super) fn serve(&self, command: &mut Command, folder: &Path) -> Result<()> {
        let llvm = self.llvm()?;
        let libclang = llvm.join("lib");
        let [run, link, include] = ["run", "link", "include"].map(|name| folder.join(name));
        for made in [&run, &link, &include] {
            fs::create_dir_all(made).map_err(Error::io("create", made))?;
        }
        for name in HEADERS {
            let from = header(&self.root, name).ok_or_else(|| self.lacks(name))?;
            symlink_over(&from, &include.join(name))?;
        }
        for name in LINKED {
            let from = self.library(name).ok_or_else(|| self.lacks(name))?;
            symlink_over(&from, &link.join(name))?;
        }
        for library in self.closure(&libclang)? {
            symlink_over(&library, &run.join(library.file_name().unwrap_or_default()))?;
        }
        for (variable, program) in [("PROTOC", PROTOC), ("PKG_CONFIG", PKG_CONFIG)] {
            let mut started = Command::new("/usr/bin/env");
            started.arg(format!("LD_LIBRARY_PATH={}", run.display())).arg(self.root.join(program));
            let starter = folder.join(program.rsplit('/').next().unwrap_or(program));
            write_starter(&started, &starter).map_err(Error::io("write", &starter))?;
            command.env(variable, &starter);
        }
        let described = ["usr/lib/x86_64-linux-gnu/pkgconfig", "usr/share/pkgconfig"];
        let described = described.map(|folder| self.root.join(folder).display().to_string());
        command.env("PKG_CONFIG_LIBDIR", described.join(":")).env("PKG_CONFIG_SYSROOT_DIR", &self.root);
        command.env("C_INCLUDE_PATH", &include);
        command.env("LIBRARY_PATH", &link);
        command.env("LIBCLANG_PATH", &libclang);
        command.env("LD_LIBRARY_PATH", &run);
        // As a DT_RPATH, which is searched for what the libraries themselves need, too. Neither spaces nor commas of the cache's path
        // part these words.
        let run = run.display().to_string();
        let words = ["--disable-new-dtags", "-rpath", run.as_str()];
        let flags = words.map(|word| format!("-Clink-arg=-Xlinker\u{1f}-Clink-arg={word}"));
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        Ok(())
    }

    fn llvm(&self) -> Result<PathBuf> {
        llvm(&self.root).ok_or_else(|| self.lacks("libclang of version 18 or newer"))
    }

    fn lacks(&self, what: &str) -> Error {
        Error::Incomplete { what: RECIPE.purpose.what.to_owned(), path: PathBuf::from(what) }
    }

    fn library(&self, name: &str) -> Option<PathBuf> {
        FOLDERS.iter().map(|folder| self.root.join(folder).join(name)).find(|path| path.exists())
    }

    /// The libraries that its programs, its libclang and what is linked with its libraries look for, without those of libc.
    fn closure(&self, libclang: &Path) -> Result<BTreeSet<PathBuf>> {
        let mut found: BTreeSet<PathBuf> = LINKED.iter().flat_map(|name| self.numbered(name)).collect();
        let mut queue = vec![self.root.join(PROTOC), self.root.join(PKG_CONFIG)];
        queue.extend(libclang_file(libclang));
        queue.extend(found.iter().cloned());
        while let Some(file) = queue.pop() {
            let bytes = fs::read(&file).map_err(Error::io("read", &file))?;
            let needs = needs(&bytes).map_err(|e| Error::io("read", &file)(std::io::Error::other(e)))?;
            for name in needs.libraries.iter().filter(|name| !OF_LIBC.contains(&name.as_str())) {
                if let Some(library) = self.library(name)
                    && found.insert(library.clone())
                {
                    queue.push(library);
                }
            }
        }
        Ok(found)
    }

    /// The files of the library `name`, a `libx.so`, whose names have its version: by one of those a program looks for it.
    fn numbered(&self, name: &str) -> Vec<PathBuf> {
        let folders = FOLDERS.iter().filter_map(|folder| fs::read_dir(self.root.join(folder)).ok());
        let files = folders.flat_map(|folder| folder.flatten()).map(|file| file.path());
        let is_of_it = |path: &PathBuf| {
            let rest = path.file_name().and_then(|file| file.to_str()?.strip_prefix(name));
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        files.filter(is_of_it).collect()
    }
}

/// The library of libclang in `folder`.
fn libclang_file(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|file| file.path());
    files.filter(|path| path.file_name().is_some_and(|name| is_libclang(&name.to_string_lossy()))).min()
}

/// A link at `link` to `target`, in place of what is there: programs that are running meanwhile always find one.
fn symlink_over(target: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|there| there == target) {
        return Ok(());
    }
    let mut new = link.as_os_str().to_owned();
    new.push(".new");
    let _absent = fs::remove_file(&new);
    symlink(target, &new).map_err(Error::io("create", link))?;
    fs::rename(&new, link).map_err(Error::io("create", link))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A root with these files.
    fn root(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        dir
    }

    const WHOLE: [&str; 10] = [
        "usr/include/libelf.h",
        "usr/include/gelf.h",
        "usr/include/elfutils/version.h",
        "usr/include/zlib.h",
        "usr/include/x86_64-linux-gnu/zconf.h",
        "usr/include/seccomp.h",
        "usr/include/seccomp-syscalls.h",
        "usr/lib/llvm-19/lib/libclang-19.so.1",
        PROTOC,
        PKG_CONFIG,
    ];

    fn has_them(files: &[&str], libclang_is_given: bool) -> bool {
        let dir = root(files);
        let host = Host {
            root: dir.path().to_owned(),
            path: dir.path().join("usr/bin").into_os_string(),
            qemu: None,
            bpf_root: None,
        };
        host_has_them(&host, libclang_is_given)
    }

    #[test]
    fn a_host_has_them_only_when_nothing_is_missing() {
        assert!(has_them(&WHOLE, false));
        for missing in 0..WHOLE.len() {
            let mut files = WHOLE.to_vec();
            let file = files.remove(missing);
            assert!(!has_them(&files, false), "{file} is missing");
            assert_eq!(has_them(&files, true), file.contains("libclang"), "{file} is missing");
        }
    }

    #[test]
    fn of_several_llvms_the_newest_is_taken_and_none_that_is_too_old() {
        let dir = root(&[
            "usr/lib/llvm-14/lib/libclang-14.so.1",
            "usr/lib/llvm-18/lib/libclang.so.1",
            "usr/lib/llvm-19/lib/libclang-19.so.19",
            "usr/lib/llvm-20/lib/libclang-cpp.so.20.1",
            "usr/lib/llvm-21/bin/clang",
        ]);
        assert_eq!(llvm(dir.path()), Some(dir.path().join("usr/lib/llvm-19")));
        let old = root(&["usr/lib/llvm-14/lib/libclang-14.so.1", "usr/lib/llvm-x/lib/libclang.so"]);
        assert_eq!(llvm(old.path()), None);
    }

    #[test]
    fn build_scripts_find_what_programs_need_and_no_libc_beside_the_hosts() {
        // The host's own sh and its libraries stand for those of the packages.
        let mut files = WHOLE.to_vec();
        files.retain(|file| !file.starts_with("usr/bin") && !file.starts_with("usr/lib"));
        let dir = root(&files);
        let below = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let cc = fs::canonicalize("/proc/self/exe").unwrap();
        for program in [PROTOC, PKG_CONFIG, "usr/lib/llvm-19/lib/libclang-19.so.19"] {
            fs::copy(&cc, below(program)).unwrap();
        }
        let needed = needs(&fs::read(&cc).unwrap()).unwrap().libraries;
        assert!(needed.iter().any(|name| name == "libgcc_s.so.1"), "{needed:?}");
        for name in
            needed.iter().map(String::as_str).chain(["libelf.so", "libz.so.1", "libz.so", "libseccomp.so"])
        {
            fs::copy(&cc, below(&format!("{LIBRARIES}/{name}"))).unwrap();
        }
        let mut command = Command::new("cargo");
        let made = tempfile::tempdir().unwrap();
        let libraries = CrateLibraries { root: dir.path().to_owned() };
        libraries.serve(&mut command, made.path()).unwrap();
        // A second build finds them there.
        libraries.serve(&mut command, made.path()).unwrap();
        let names = |folder: &str| {
            let read = fs::read_dir(made.path().join(folder)).unwrap();
            let mut names: Vec<String> =
                read.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names("run"), ["libgcc_s.so.1", "libz.so.1"]);
        assert_eq!(names("link"), ["libelf.so", "libseccomp.so", "libz.so"]);
        assert_eq!(names("include").len(), HEADERS.len());
        let given: Vec<&str> = command.get_envs().filter_map(|(name, _)| name.to_str()).collect();
        for variable in
            ["PROTOC", "PKG_CONFIG", "LIBCLANG_PATH", "LD_LIBRARY_PATH", "CARGO_ENCODED_RUSTFLAGS"]
        {
            assert!(given.contains(&variable), "{given:?}");
        }
    }
}
