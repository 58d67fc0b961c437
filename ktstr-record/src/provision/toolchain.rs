//! The BPF toolchain: clang, lld, bpftool, libbpf and what static loaders are linked with.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use xxhash_rust::xxh3::xxh3_64;

use super::apt::Purpose;
use super::bundle::{self, Recipe, Suite};
use super::error::{Error, Result};
use super::host::Context;

const CLANG: &str = "usr/bin/clang-19";
const BPFTOOL: &str = "usr/sbin/bpftool";
const LLD: &str = "usr/lib/llvm-19/bin/lld";
/// Where clang keeps its own libraries.
const LLVM_LIBRARIES: &str = "usr/lib/llvm-19/lib";
/// clang's own headers. It finds them from its program's path, which is the loader's here.
const CLANG_RESOURCES: &str = "usr/lib/llvm-19/lib/clang/19";

const REQUIRED: &[&str] = &[
    CLANG,
    BPFTOOL,
    CLANG_RESOURCES,
    LLD,
    "usr/lib64/ld-linux-x86-64.so.2",
    "usr/include/bpf/bpf_helpers.h",
    "usr/lib/x86_64-linux-gnu/libbpf.a",
    "usr/lib/x86_64-linux-gnu/libelf.a",
    "usr/lib/x86_64-linux-gnu/libz.a",
    "usr/lib/x86_64-linux-gnu/libzstd.a",
    "usr/lib/x86_64-linux-gnu/libc.a",
];

pub(super) const RECIPE: Recipe<'static> = Recipe {
    purpose: Purpose {
        name: "trixie",
        what: "the BPF toolchain",
        instead: "set KTSTR_BPF_ROOT to a folder that holds Debian 13's clang-19, lld-19, bpftool, libbpf-dev (1.7 for arenas), \
                  libelf-dev, zlib1g-dev, libzstd-dev and libc6-dev (`/` where they are installed)",
    },
    suite: Suite::Current,
    name: "bpf-toolchain",
    packages: &[
        "clang-19",
        "lld-19",
        "bpftool",
        "libelf-dev",
        "zlib1g-dev",
        "libzstd-dev",
        "libc6-dev",
        "libgcc-14-dev",
    ],
    numbered: &[],
    // Before 1.7 the loader of a scheduler that keeps variables in an arena dies when it touches them.
    newest: &["libbpf-dev"],
    required: REQUIRED,
};

/// clang, lld, bpftool, libbpf and static libraries in one folder that is laid out as Debian's `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfToolchain {
    /// The folder: programs in `usr/bin` and `usr/sbin`, headers in `usr/include`.
    pub root: PathBuf,
    /// Changes when the folder's programs do; a part of the key of what is built with them.
    pub id: String,
}

impl BpfToolchain {
    /// clang with its own headers and this toolchain's libc, to which arguments can be added.
    pub fn clang(&self) -> Command {
        let mut command = self.command(CLANG);
        command.arg("-resource-dir").arg(self.root.join(CLANG_RESOURCES)).arg("--sysroot").arg(&self.root);
        command
    }

    /// The linker, to which arguments can be added: those of the GNU linker.
    pub(crate) fn lld(&self) -> Command {
        let mut command = self.command(LLD);
        command.args(["-flavor", "gnu"]);
        command
    }

    /// bpftool, to which arguments can be added.
    pub fn bpftool(&self) -> Command {
        self.command(BPFTOOL)
    }

    /// bpftool's program, dynamic loader and libraries, relative to [`BpfToolchain::root`]: what a
    /// guest needs in order to run it. Started there as [`BpfToolchain::bpftool_command`].
    ///
    /// # Errors
    /// [`Error::Io`] where one of them cannot be read.
    pub fn bpftool_files(&self) -> Result<Vec<PathBuf>> {
        bundle::closure(&self.root, BPFTOOL)
    }

    /// The words that start bpftool where [`BpfToolchain::bpftool_files`] were put below `root`.
    pub fn bpftool_command(root: &Path) -> Vec<PathBuf> {
        bundle::program_below(root, BPFTOOL, &[])
    }

    fn command(&self, program: &str) -> Command {
        let words = bundle::program_below(&self.root, program, &[LLVM_LIBRARIES]);
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }
}

/// Write a program to `path` that runs `command` with the arguments that it is given: for programs that start another by one
/// path, where it is a dynamic loader with arguments.
pub(crate) fn write_starter(command: &Command, path: &Path) -> io::Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| quoted(&word.to_string_lossy())).collect();
    fs::write(path, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The toolchain to use.
pub(super) fn find(context: &Context, refresh: bool) -> Result<BpfToolchain> {
    if let Some(root) = &context.host.bpf_root {
        return given(root);
    }
    let bundle = RECIPE.get(context, refresh, |bundle| {
        prove(&BpfToolchain { root: bundle.root.clone(), id: bundle.id() }).map(|()| None)
    })?;
    Ok(BpfToolchain { root: bundle.root.clone(), id: bundle.id() })
}

/// A toolchain that the user gave. Its id is made of its programs' sizes and times of change.
fn given(root: &Path) -> Result<BpfToolchain> {
    let mut facts = root.display().to_string();
    for missing in REQUIRED {
        let meta = fs::metadata(root.join(missing))
            .map_err(|_| Error::BadBpfRoot { root: root.to_owned(), missing })?;
        let changed = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        facts.push_str(&format!("\n{} {:?}", meta.len(), changed));
    }
    Ok(BpfToolchain { root: root.to_owned(), id: format!("{:016x}", xxh3_64(facts.as_bytes())) })
}

/// Both programs start.
fn prove(toolchain: &BpfToolchain) -> Result<()> {
    for (mut command, program, argument) in
        [(toolchain.clang(), "clang", "--version"), (toolchain.bpftool(), "bpftool", "version")]
    {
        let output = command
            .arg(argument)
            .output()
            .map_err(|source| Error::Spawn { program: command.get_program().into(), source })?;
        if !output.status.success() {
            return Err(Error::Failed {
                doing: "start a program of the new BPF toolchain".to_owned(),
                program: program.to_owned(),
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starter_runs_its_command_whatever_the_words_are() {
        let dir = tempfile::tempdir().unwrap();
        let (starter, word) = (dir.path().join("start it"), "it's a $HOME folder");
        let mut command = Command::new("/bin/echo");
        command.args(["-n", word]);
        write_starter(&command, &starter).unwrap();
        let output = Command::new(&starter).arg("and more").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{word} and more"));
    }

    #[test]
    fn a_given_root_without_its_files_is_refused_by_the_name_of_the_first_that_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        fs::write(dir.path().join(CLANG), "").unwrap();
        let text = given(dir.path()).unwrap_err().to_string();
        assert!(text.contains("KTSTR_BPF_ROOT") && text.contains(BPFTOOL), "{text}");
    }
}
