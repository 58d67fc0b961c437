//! The way in: everything that a run needs, found or fetched, once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::apt;
use super::cache::Cache;
use super::crates::{self, CrateSpec};
use super::emulator;
use super::error::Result;
use super::host::{Context, Host};
use super::kernel::{self, KernelCheck, KernelListing, KernelRange, KernelSelection, KernelSpec};
use super::package::{self, PackageProgram};
use super::progress::Progress;
use super::toolchain::{self, BpfToolchain};
use crate::spec::{Emulator, Kernel, KernelConfig};

/// What to remove from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clean {
    /// All kernels, and the objects of builds.
    Kernels,
    /// Everything: kernels, bundles, package lists, and what other parts of ktstr keep there.
    Everything,
}

/// Finds or fetches emulator, kernels and BPF toolchain, and remembers them in this process.
///
/// Any number of threads and processes may ask at once: each thing is fetched once.
#[derive(Debug)]
pub struct Provisioner {
    context: Context,
    emulator: Mutex<Option<Emulator>>,
    toolchain: Mutex<Option<BpfToolchain>>,
    kernels: Mutex<HashMap<KernelSpec, Kernel>>,
}

impl Provisioner {
    /// For this user's cache and this host, with progress on stderr.
    ///
    /// # Errors
    /// Where the cache cannot be made.
    pub fn open() -> Result<Self> {
        Self::new(Cache::open()?, Host::current(), Progress::stderr())
    }

    /// For any cache and host. Removes what killed runs left half-made in the cache.
    ///
    /// # Errors
    /// Where such leftovers cannot be removed.
    pub fn new(cache: Cache, host: Host, progress: Progress) -> Result<Self> {
        cache.sweep()?;
        Ok(Self {
            context: Context { cache, host, progress },
            emulator: Mutex::default(),
            toolchain: Mutex::default(),
            kernels: Mutex::default(),
        })
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.context.cache
    }

    /// The emulator: `KTSTR_QEMU`, else one in `PATH` that is new enough, else a bundle.
    ///
    /// # Errors
    /// Where there is none and none can be fetched; see [`super::Error`].
    pub fn emulator(&self) -> Result<Emulator> {
        let mut slot = hold(&self.emulator);
        if let Some(emulator) = &*slot {
            return Ok(emulator.clone());
        }
        Ok(slot.insert(emulator::find(&self.context, false)?).clone())
    }

    /// The kernel that `spec` asks for: of the cache if that has one, else of the archive.
    ///
    /// # Errors
    /// Where the file is not a kernel, or the archive has none that fits; see [`super::Error`].
    pub fn kernel(&self, spec: &KernelSpec) -> Result<Kernel> {
        let mut known = hold(&self.kernels);
        if let Some(kernel) = known.get(spec) {
            return Ok(kernel.clone());
        }
        let kernel = kernel::resolve(&self.context, spec, false)?;
        known.insert(spec.clone(), kernel.clone());
        Ok(kernel)
    }

    /// The configuration of `kernel`, which `spec` gave: `given` if there is one, else of the archive's package, beside the
    /// user's file, or inside the kernel. `None` where there is none, and where it cannot be fetched, which is told.
    ///
    /// # Errors
    /// Where `given` is not a configuration, or the cache cannot be read or written.
    pub fn kernel_config(
        &self,
        spec: &KernelSpec,
        kernel: &Kernel,
        given: Option<&Path>,
    ) -> Result<Option<KernelConfig>> {
        match given {
            Some(path) => kernel::read_config(path).map(Some),
            None => kernel::config_of(&self.context, spec, kernel),
        }
    }

    /// The newest kernel with sched_ext of each series in `range`: of the cache, else of the archive.
    ///
    /// # Errors
    /// Where there is none, or one cannot be fetched; see [`super::Error`].
    pub fn select_kernels(&self, range: &KernelRange) -> Result<KernelSelection> {
        kernel::select(&self.context, range)
    }

    /// What can be said of `kernel`, whose configuration is `config`, without booting it.
    ///
    /// # Errors
    /// Where its file or its types cannot be read.
    pub fn check_kernel(&self, kernel: &Kernel, config: Option<&KernelConfig>) -> Result<KernelCheck> {
        kernel::check(kernel, config)
    }

    /// The kernel of the source tree `folder`, built by make unless the cache has a build of the same source. What is run, and
    /// with which configuration, is told.
    ///
    /// # Errors
    /// Where it is no source tree, make fails, or the tree does not take the options that tests need.
    pub fn build_kernel(&self, folder: &Path) -> Result<Kernel> {
        kernel::build(&self.context, folder)
    }

    /// The root of the source of `kernel`, in which at least `parts` are: files and folders, as `tools/sched_ext`. It is
    /// the archive's source package of the kernel's major and minor version; for parts that are not there yet 160 MB are
    /// downloaded.
    ///
    /// # Errors
    /// Where the archive has no source of that kernel, or that has no such part.
    pub fn kernel_source(&self, kernel: &Kernel, parts: &[&str]) -> Result<PathBuf> {
        kernel::source_of(&self.context, kernel, parts)
    }

    /// The kernel that `spec` asks for as the archive has it now; later runs then find it in the cache.
    ///
    /// # Errors
    /// As [`Provisioner::kernel`].
    pub fn fetch_kernel(&self, spec: &KernelSpec) -> Result<Kernel> {
        let kernel = kernel::resolve(&self.context, spec, true)?;
        hold(&self.kernels).insert(spec.clone(), kernel.clone());
        Ok(kernel)
    }

    /// The kernels that can be had, newest first. Without a network, those of the cache.
    ///
    /// # Errors
    /// Where the archive cannot be asked and the cache has none.
    pub fn list_kernels(&self) -> Result<Vec<KernelListing>> {
        kernel::list(&self.context)
    }

    /// The kernels of the cache, newest first. Asks nobody.
    pub fn cached_kernels(&self) -> Vec<KernelListing> {
        kernel::list_cached(&self.context)
    }

    /// clang, bpftool and libbpf: `KTSTR_BPF_ROOT`, else a bundle.
    ///
    /// # Errors
    /// Where it cannot be fetched; see [`super::Error`].
    pub fn toolchain(&self) -> Result<BpfToolchain> {
        let mut slot = hold(&self.toolchain);
        if let Some(toolchain) = &*slot {
            return Ok(toolchain.clone());
        }
        Ok(slot.insert(toolchain::find(&self.context, false)?).clone())
    }

    /// The program of a scheduler of the package registry: of the cache, else built by `cargo install --locked`, with the
    /// toolchain's clang where the host has none that will do.
    ///
    /// # Errors
    /// Where it cannot be downloaded or built, or has no program of its name.
    pub fn crate_program(&self, spec: &CrateSpec) -> Result<PathBuf> {
        crates::program(&self.context, spec, || self.toolchain())
    }

    /// The program `binary` of a package of the archive, with its loader and libraries: of the cache, else fetched.
    ///
    /// # Errors
    /// Where there is no such package or program, or it cannot be fetched; see [`super::Error`].
    pub fn package_program(&self, package: &str, binary: &str) -> Result<PackageProgram> {
        package::program(&self.context, package, binary)
    }

    /// Fetches the bundles anew, as the archive has them now; a program that the user gave stays.
    ///
    /// # Errors
    /// As [`Provisioner::emulator`] and [`Provisioner::toolchain`].
    pub fn refresh_bundles(&self) -> Result<()> {
        *hold(&self.emulator) = Some(emulator::find(&self.context, true)?);
        *hold(&self.toolchain) = Some(toolchain::find(&self.context, true)?);
        Ok(())
    }

    /// Removes entries of the cache, and says which. A fetch that is under way is let finish first,
    /// or its result appears afterwards; it does not fail.
    ///
    /// # Errors
    /// Where something cannot be removed.
    pub fn clean(&self, what: Clean) -> Result<Vec<String>> {
        let Context { cache, progress, .. } = &self.context;
        let names = match what {
            Clean::Kernels => vec!["kernels".to_owned(), kernel::BUILDS.to_owned()],
            Clean::Everything => cache.entries("")?,
        };
        let mut removed = Vec::new();
        for name in names {
            if name == apt::FOLDER {
                for state in cache.entries(&name)? {
                    let _not_in_use = cache.lock(&apt::lock_name(&state), *progress)?;
                    cache.remove(format!("{name}/{state}"), *progress)?;
                }
            }
            if cache.remove(&name, *progress)? {
                removed.push(name);
            }
        }
        hold(&self.kernels).clear();
        if what == Clean::Everything {
            *hold(&self.emulator) = None;
            *hold(&self.toolchain) = None;
        }
        Ok(removed)
    }
}

/// Locks `mutex`. A thread that panicked while it held it left a whole value or none.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;

    use super::*;

    fn provisioner() -> (tempfile::TempDir, Provisioner) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host { root: dir.path().join("host"), path: OsString::new(), qemu: None, bpf_root: None };
        let cache = Cache::at(dir.path().join("ktstr")).unwrap();
        for folder in ["kernels/7.3", "bundles/emulator", "apt/trixie/lists", "templates/x"] {
            fs::create_dir_all(cache.path(folder)).unwrap();
        }
        (dir, Provisioner::new(cache, host, Progress::Silent).unwrap())
    }

    #[test]
    fn cleaning_kernels_leaves_the_rest() {
        let (_dir, provisioner) = provisioner();
        assert_eq!(provisioner.clean(Clean::Kernels).unwrap(), ["kernels"]);
        assert_eq!(provisioner.cache().entries("").unwrap(), ["apt", "bundles", "templates"]);
        assert_eq!(provisioner.clean(Clean::Kernels).unwrap(), [""; 0]);
    }

    #[test]
    fn cleaning_everything_leaves_locks_alone() {
        let (_dir, provisioner) = provisioner();
        let all = ["apt", "bundles", "kernels", "templates"];
        assert_eq!(provisioner.clean(Clean::Everything).unwrap(), all);
        assert_eq!(provisioner.cache().entries("").unwrap(), [""; 0]);
        assert_eq!(provisioner.cache().entries("staging").unwrap(), [""; 0]);
        assert!(provisioner.cache().path("locks").is_dir());
    }

    #[test]
    fn what_killed_runs_left_is_gone_once_a_provisioner_is_there() {
        let (_dir, first) = provisioner();
        fs::create_dir_all(first.cache().path("staging/bundle-emulator/bundle/root")).unwrap();
        let context = first.context.clone();
        Provisioner::new(context.cache, context.host, context.progress).unwrap();
        assert_eq!(first.cache().entries("staging").unwrap(), [""; 0]);
    }
}
