//! Running the toolchain's programs.
//!
//! The toolchain is a folder of unpacked packages with its own libc, so a program runs through its dynamic loader;
//! nothing of the host but its kernel and `/bin/sh` (for the linker's wrapper) takes part.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::error::BuildError;

/// The dynamic loader of the toolchain.
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";
/// Where its libraries are.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib/llvm-19/lib"];
/// clang.
pub(super) const CLANG: &str = "usr/bin/clang-19";
/// clang's own headers, which it does not find when it runs through a loader.
const CLANG_RESOURCES: &str = "usr/lib/llvm-19/lib/clang/19";
/// The linker.
const LLD: &str = "usr/lib/llvm-19/bin/lld";
/// bpftool.
pub(super) const BPFTOOL: &str = "usr/sbin/bpftool";

/// The steps of one build: the toolchain's root, and a log of what was run.
#[derive(Debug)]
pub(super) struct Tools<'a> {
    root: &'a Path,
    log: String,
}

impl<'a> Tools<'a> {
    /// The programs below `root`.
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, log: String::new() }
    }

    /// The toolchain's root.
    pub(super) fn root(&self) -> &Path {
        self.root
    }

    /// What was run so far, and what it printed to standard error.
    pub(super) fn log(&self) -> &str {
        &self.log
    }

    fn libraries(&self) -> String {
        LIBRARIES.map(|folder| self.root.join(folder).display().to_string()).join(":")
    }

    /// Runs `tool` with `args` and gives what it printed to standard output; `step` says what it is for.
    pub(super) fn run<A: AsRef<OsStr>>(
        &mut self,
        step: impl Into<String>,
        tool: &'static str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Vec<u8>, BuildError> {
        let mut command = Command::new(self.root.join(LOADER));
        command.arg("--library-path").arg(self.libraries()).arg(self.root.join(tool)).args(args);
        // A cleared environment: clang takes include and library folders, and more, from variables.
        command.stdin(Stdio::null()).env_clear().env("LC_ALL", "C");
        self.log.push_str(&format!("{command:?}\n"));
        let Output { status, stdout, stderr } = command.output().map_err(|source| BuildError::Spawn {
            tool,
            root: self.root.to_owned(),
            source,
        })?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        self.log.push_str(&stderr);
        if !status.success() {
            return Err(BuildError::Step { step: step.into(), tool, status, stderr });
        }
        Ok(stdout)
    }

    /// Compiles one file for the machine (not for BPF): clang with the toolchain's libc and its own headers.
    pub(super) fn compile_host(
        &mut self,
        source: &Path,
        object: &Path,
        include: &[PathBuf],
    ) -> Result<(), BuildError> {
        let mut args = vec![
            "-O2".into(),
            "-Wall".into(),
            "--sysroot".into(),
            self.root.as_os_str().to_owned(),
            "-resource-dir".into(),
            self.root.join(CLANG_RESOURCES).into(),
        ];
        args.extend(include_args(include));
        args.extend(["-c".into(), source.into(), "-o".into(), object.into()]);
        self.run(format!("compile {}", source.display()), CLANG, args).map(drop)
    }

    /// Links `objects` with libbpf into one static program. `scratch` takes the linker's wrapper: clang starts its
    /// linker as a program of its own, and this one runs only through the loader.
    pub(super) fn link_static(
        &mut self,
        objects: &[PathBuf],
        program: &Path,
        scratch: &Path,
    ) -> Result<(), BuildError> {
        let wrapper = scratch.join("ld.lld");
        let script = format!(
            "#!/bin/sh\nexec {loader} --argv0 ld.lld --library-path {libraries} {lld} \"$@\"\n",
            loader = quoted(&self.root.join(LOADER).display().to_string()),
            libraries = quoted(&self.libraries()),
            lld = quoted(&self.root.join(LLD).display().to_string()),
        );
        fs::write(&wrapper, script).map_err(BuildError::io("write", &wrapper))?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))
            .map_err(BuildError::io("make executable", &wrapper))?;
        let mut ld_path = std::ffi::OsString::from("--ld-path=");
        ld_path.push(&wrapper);
        let mut args = vec!["--sysroot".into(), self.root.as_os_str().to_owned(), ld_path, "-static".into()];
        args.extend(objects.iter().map(|object| object.as_os_str().to_owned()));
        args.extend(["-o".into(), program.as_os_str().to_owned()]);
        args.extend(["-lbpf", "-lelf", "-lz", "-lzstd"].map(Into::into));
        self.run(format!("link {}", program.display()), CLANG, args).map(drop)
    }
}

/// `-I FOLDER` for each folder.
pub(super) fn include_args(folders: &[PathBuf]) -> impl Iterator<Item = std::ffi::OsString> {
    folders.iter().flat_map(|folder| ["-I".into(), folder.as_os_str().to_owned()])
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_words_survive_quotes_and_spaces() {
        let word = "it's a $HOME folder";
        let script = format!("printf %s {}", quoted(word));
        let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), word);
    }

    #[test]
    fn a_toolchain_without_programs_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let error = Tools::new(empty.path()).run("compile", CLANG, ["--version"]).unwrap_err();
        assert!(error.to_string().starts_with("cannot start usr/bin/clang-19"), "{error}");
    }
}
