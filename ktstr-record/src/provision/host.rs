//! What the host has: its programs, its apt configuration, the user's own choices; and what every part of provisioning
//! needs at hand.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::cache::Cache;
use super::progress::Progress;

/// The host, as far as provisioning looks at it. Tests make one that points elsewhere.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where its files are: `/`.
    pub root: PathBuf,
    /// Where its programs are looked for: `PATH`.
    pub path: OsString,
    /// The emulator that the user gave (`KTSTR_QEMU`).
    pub qemu: Option<PathBuf>,
    /// The root of the BPF toolchain that the user gave (`KTSTR_BPF_ROOT`).
    pub bpf_root: Option<PathBuf>,
}

impl Host {
    /// This host and this process's environment.
    pub fn current() -> Self {
        let given = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            root: PathBuf::from("/"),
            path: env::var_os("PATH").unwrap_or_default(),
            qemu: given("KTSTR_QEMU"),
            bpf_root: given("KTSTR_BPF_ROOT"),
        }
    }

    /// The first executable file called `name` in `PATH`.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        env::split_paths(&self.path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|file| is_executable(file))
    }

    /// The host's distribution, from `os-release(5)`.
    pub(super) fn release(&self) -> OsRelease {
        let read = |path: &str| fs::read_to_string(self.root.join(path)).ok();
        let text = read("etc/os-release").or_else(|| read("usr/lib/os-release")).unwrap_or_default();
        OsRelease::parse(&text)
    }
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The two fields of `os-release(5)` that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OsRelease {
    /// `ID`, as `debian`.
    pub(super) id: String,
    /// `VERSION_CODENAME`, as `bookworm`; empty where there is none.
    pub(super) codename: String,
}

impl OsRelease {
    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.trim().split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
                .unwrap_or_default()
        };
        Self { id: field("ID"), codename: field("VERSION_CODENAME") }
    }
}

/// The cache to fill, the host to fill it from, and whom to tell.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) cache: Cache,
    pub(super) host: Host,
    pub(super) progress: Progress,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn os_release_is_read_with_and_without_quotes() {
        let release = OsRelease::parse(
            "PRETTY_NAME=\"x\"\nVERSION_ID='12'\nVERSION_CODENAME=bookworm\nID=\"debian\"\n",
        );
        assert_eq!(release, OsRelease { id: "debian".into(), codename: "bookworm".into() });
        assert_eq!(OsRelease::parse(""), OsRelease::default());
    }

    #[test]
    fn only_executable_files_are_programs() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        for folder in [&first, &second] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("tool"), "").unwrap();
        }
        let host = Host {
            root: dir.path().to_owned(),
            path: env::join_paths([&first, &second]).unwrap(),
            qemu: None,
            bpf_root: None,
        };
        assert_eq!(host.find("tool"), None);
        fs::set_permissions(second.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(host.find("tool"), Some(second.join("tool")));
    }
}
