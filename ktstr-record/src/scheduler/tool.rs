//! Running the toolchain's programs, each step with a name, and keeping a log of them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::error::BuildError;
use crate::provision::{BpfToolchain, write_starter};

/// The steps of one build.
#[derive(Debug)]
pub(super) struct Tools<'a> {
    toolchain: &'a BpfToolchain,
    log: String,
}

/// What the compilations of a build's BPF sources have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct BpfCommon<'a> {
    /// Folders of headers.
    pub include: &'a [PathBuf],
    /// The folder of `vmlinux.h`.
    pub types: &'a Path,
    /// The header that comes first.
    pub builtins: &'a Path,
    /// Warnings that are turned off.
    pub warnings: &'a [String],
}

impl<'a> Tools<'a> {
    /// Nothing was run yet.
    pub(super) fn new(toolchain: &'a BpfToolchain) -> Self {
        Self { toolchain, log: String::new() }
    }

    /// What was run so far, and what it printed to standard error.
    pub(super) fn log(&self) -> &str {
        &self.log
    }

    /// bpftool with `args`; gives what it printed.
    pub(super) fn bpftool(&mut self, step: &str, args: &[&OsStr]) -> Result<Vec<u8>, BuildError> {
        let mut command = self.toolchain.bpftool();
        command.args(args);
        self.run(step.to_owned(), "bpftool", command)
    }

    /// Compiles a BPF program. The kernel's types are in `types`.
    ///
    /// The kernel is built with `-fms-extensions`, so its types have members that only that flag makes sense of;
    /// `-isystem` keeps warnings about its types from drowning those about the scheduler.
    ///
    /// clang 19 makes `memset` of stores that follow each other, and expands that without the cast into the address space
    /// of an arena, so that the verifier refuses the program. With `builtins`, only the source's own `memset` is expanded.
    pub(super) fn compile_bpf(
        &mut self,
        source: &Path,
        object: &Path,
        common: &BpfCommon<'_>,
    ) -> Result<(), BuildError> {
        let BpfCommon { include, types, builtins, warnings } = *common;
        let mut command = self.toolchain.clang();
        command.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall"]);
        command.args(warnings.iter().map(|warning| format!("-Wno-{warning}")));
        command.args(["-fms-extensions", "-D__TARGET_ARCH_x86"]);
        command.args(["-fno-builtin-memset", "-fno-builtin-memcpy", "-include"]).arg(builtins);
        command.args(include_args(include)).arg("-isystem").arg(types);
        command.arg("-isystem").arg(self.toolchain.root.join("usr/include"));
        command.arg("-c").arg(source).arg("-o").arg(object);
        self.run(format!("compile {}", source.display()), "clang", command).map(drop)
    }

    /// Compiles a file for the guest's CPUs.
    pub(super) fn compile_host(
        &mut self,
        source: &Path,
        object: &Path,
        include: &[PathBuf],
    ) -> Result<(), BuildError> {
        let mut command = self.toolchain.clang();
        command.args(["-O2", "-Wall"]).args(include_args(include));
        command.arg("-c").arg(source).arg("-o").arg(object);
        self.run(format!("compile {}", source.display()), "clang", command).map(drop)
    }

    /// Links `objects` with libbpf into one static program. `scratch` takes the linker's wrapper: clang starts its
    /// linker as one program, and this one is a dynamic loader with arguments.
    pub(super) fn link_static(
        &mut self,
        objects: &[PathBuf],
        program: &Path,
        scratch: &Path,
    ) -> Result<(), BuildError> {
        let wrapper = scratch.join("ld.lld");
        write_starter(&self.toolchain.lld(), &wrapper).map_err(BuildError::io("write", &wrapper))?;
        let mut ld_path = OsString::from("--ld-path=");
        ld_path.push(&wrapper);
        let mut command = self.toolchain.clang();
        command.arg(ld_path).arg("-static").args(objects).arg("-o").arg(program);
        command.args(["-lbpf", "-lelf", "-lz", "-lzstd"]);
        self.run(format!("link {}", program.display()), "clang", command).map(drop)
    }

    fn run(
        &mut self,
        step: String,
        program: &'static str,
        mut command: Command,
    ) -> Result<Vec<u8>, BuildError> {
        // A cleared environment: clang takes include and library folders, and more, from variables.
        command.stdin(Stdio::null()).env_clear().env("LC_ALL", "C");
        self.log.push_str(&format!("{command:?}\n"));
        let root = || self.toolchain.root.clone();
        let Output { status, stdout, stderr } =
            command.output().map_err(|source| BuildError::Spawn { program, root: root(), source })?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        self.log.push_str(&stderr);
        if !status.success() {
            return Err(BuildError::Step { step, program, status, stderr });
        }
        Ok(stdout)
    }
}

/// `-I FOLDER` for each folder.
fn include_args(folders: &[PathBuf]) -> impl Iterator<Item = &OsStr> {
    folders.iter().flat_map(|folder| [OsStr::new("-I"), folder.as_os_str()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_without_programs_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let toolchain = BpfToolchain { root: empty.path().to_owned(), id: String::new() };
        let error = Tools::new(&toolchain).bpftool("dump types", &[]).unwrap_err().to_string();
        assert!(error.starts_with("cannot start bpftool"), "{error}");
        assert!(error.contains(&empty.path().display().to_string()), "{error}");
    }
}
