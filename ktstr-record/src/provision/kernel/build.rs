//! Building the kernel of a source tree: what is asked of make, and when its result can be taken from the cache.
//!
//! The tree's own `.config` is never written: the configuration is a file of the cache (`KCONFIG_CONFIG`), made of the tree's
//! `.config`, or of `x86_64_defconfig` where there is none, with the options of [`needs`] over it. A tree that was configured in
//! place is built in place, so that its objects serve; another is built in a folder of the cache (`O=`).

use std::fs::{self, File};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::super::cache::{Lock, create_dir_all};
use super::super::error::{Error, Result};
use super::super::host::Context;
use super::super::run::run_into;
use super::entry::{self, Files};
use super::needs::{self, Need};
use super::{source_state, tree};
use crate::spec::Kernel;

/// The folder of builds in the cache: objects, configuration and log of each tree.
pub(in super::super) const FOLDER: &str = "builds";
/// The configuration of a tree without its own.
const DEFAULT: &str = "x86_64_defconfig";
/// Variables that choose the compiler, its flags, or the end of the release, and so are a part of what is built.
const VARIABLES: [&str; 7] = ["CC", "HOSTCC", "LLVM", "LLVM_IAS", "CROSS_COMPILE", "KCFLAGS", "LOCALVERSION"];
/// Variables that would lead make elsewhere.
const REMOVED: [&str; 6] = ["ARCH", "SUBARCH", "KBUILD_OUTPUT", "KBUILD_EXTMOD", "MAKEFLAGS", "INSTALL_PATH"];
/// What the kernel says of who built it and when, so that the same source makes the same bytes.
const BUILT_BY: [(&str, &str); 3] = [
    ("KBUILD_BUILD_USER", "ktstr"),
    ("KBUILD_BUILD_HOST", "ktstr"),
    ("KBUILD_BUILD_TIMESTAMP", "1970-01-01 00:00:00 UTC"),
];
/// Lines of a failed make that an error shows.
const TAIL_LINES: usize = 20;

/// A build: of which tree, from which configuration, and where.
struct Build<'a> {
    context: &'a Context,
    make: PathBuf,
    tree: PathBuf,
    /// The configuration to begin with; `None`: [`DEFAULT`].
    base: Option<Vec<u8>>,
    /// The tree's folder in the cache.
    folder: PathBuf,
    in_place: bool,
    lock: Lock,
}

/// Builds the kernel of the source tree `folder`, unless the cache has the build of the same source.
pub(in super::super) fn build(context: &Context, folder: &Path) -> Result<Kernel> {
    let tree = fs::canonicalize(folder).map_err(Error::io("find", folder))?;
    let Some(version) = tree::version(&tree) else { return Err(tree::not_a_tree(folder)) };
    let make = || Error::NoProgram {
        what: "a build of the kernel".to_owned(),
        program: "make",
        instead: "install it, with a compiler, flex, bison, bc, libelf-dev and pahole",
    };
    let make = context.host.find("make").ok_or_else(make)?;
    let dot_config = tree.join(".config");
    let base = dot_config.is_file().then(|| fs::read(&dot_config)).transpose();
    let base = base.map_err(Error::io("read", &dot_config))?;
    let in_place = base.is_some() || tree.join("include/config").is_dir();
    let of_tree = format!("{:032x}", xxh3_128(tree.as_os_str().as_encoded_bytes()));
    let lock = context.cache.lock(&format!("build-{of_tree}"), context.progress)?;
    let build = Build {
        context,
        make,
        base,
        folder: context.cache.path(FOLDER).join(&of_tree),
        in_place,
        lock,
        tree,
    };
    let key = build.key()?;
    let name = format!("build-{key}");
    let asked = folder.display().to_string();
    let progress = context.progress;
    if let Some(kernel) = entry::load(context, &name, &asked) {
        progress.note(&format!("kernel {} of {asked}: this source was built before", kernel.release));
        return Ok(kernel);
    }
    build.tell(&version);
    let config = build.configure()?;
    let image = build.image()?;
    // Somebody may have written to the tree meanwhile: such a build is of this source and of that.
    let name = if build.key()? == key {
        name
    } else {
        progress
            .note("the source was changed while it was built, so that the next build begins with make again");
        format!("build-unsettled-{of_tree}")
    };
    let files = Files {
        image: &image,
        config: Some(&config),
        source: &format!("a build of {}", build.tree.display()),
    };
    let entry_lock = context.cache.lock(&format!("kernel-{name}"), progress)?;
    entry::make(context, &entry_lock.stage()?, &name, &asked, &files)
}

impl Build<'_> {
    /// What the result depends on, as one number in hex: sources, configuration, compiler.
    fn key(&self) -> Result<String> {
        let mut hash = Xxh3::new();
        hash.update(&source_state::of(&self.tree, self.in_place)?.to_le_bytes());
        let base = self.base.as_deref().unwrap_or(DEFAULT.as_bytes());
        for part in [base, needs::fragment(base).as_bytes()] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        for name in VARIABLES {
            hash.update(format!("{name}={:?}\n", std::env::var_os(name)).as_bytes());
        }
        for compiler in compilers(|name| std::env::var(name).ok()) {
            hash.update(&self.version_of(&compiler));
        }
        Ok(format!("{:032x}", hash.digest128()))
    }

    /// The compiler's version line; empty where there is no compiler, which make will report.
    fn version_of(&self, compiler: &str) -> Vec<u8> {
        // A path is found from where make compiles.
        let is_path = compiler.contains('/');
        let found = if is_path { Some(self.root().join(compiler)) } else { self.context.host.find(compiler) };
        let Some(program) = found else { return Vec::new() };
        Command::new(program).arg("--version").output().map(|output| output.stdout).unwrap_or_default()
    }

    /// Says what is about to be run, with which configuration.
    fn tell(&self, version: &str) {
        let tree = self.tree.display();
        let base = if self.base.is_some() { "its .config" } else { DEFAULT };
        let place = if self.in_place {
            "in place, as it was configured there; its .config is left as it is".to_owned()
        } else {
            format!("in {}", self.objects().display())
        };
        let options = needs::fragment(self.base.as_deref().unwrap_or_default());
        let options = options.trim_end().replace('\n', "\n  ");
        self.context.progress.note(&format!(
            "building Linux {version} of {tree} {place}: make -j{} bzImage, with {base} and over it\n  {options}",
            jobs()
        ));
    }

    /// Where objects go that do not go into the tree.
    fn objects(&self) -> PathBuf {
        self.folder.join("objects")
    }

    /// Where the build leaves what it makes.
    fn root(&self) -> PathBuf {
        if self.in_place { self.tree.clone() } else { self.objects() }
    }

    fn config(&self) -> PathBuf {
        self.folder.join("config")
    }

    /// Writes the configuration, and has make complete it.
    fn configure(&self) -> Result<PathBuf> {
        create_dir_all(&self.objects())?;
        let config = self.config();
        match &self.base {
            Some(base) => fs::write(&config, base).map_err(Error::io("write", &config))?,
            None => self.make(&[DEFAULT], "configure the kernel")?,
        }
        let mut text = fs::read(&config).map_err(Error::io("read", &config))?;
        // Of two lines for one option the later counts.
        let fragment = needs::fragment(&text);
        text.extend_from_slice(b"\n");
        text.extend_from_slice(fragment.as_bytes());
        fs::write(&config, &text).map_err(Error::io("write", &config))?;
        self.make(&["olddefconfig"], "configure the kernel")?;
        let text = fs::read(&config).map_err(Error::io("read", &config))?;
        let checks = needs::check(&text);
        let left_out = |is_feature: bool| -> Vec<String> {
            let out =
                checks.iter().filter(|check| !check.is_met() && (check.need == Need::Feature) == is_feature);
            out.map(|check| check.option.to_owned()).collect()
        };
        let missing = left_out(false);
        if !missing.is_empty() {
            return Err(Error::BuildConfig { tree: self.tree.clone(), missing, config });
        }
        let features = left_out(true);
        if !features.is_empty() {
            let note =
                format!("make left out {}; `ktstr kernel check` says what they are for", features.join(", "));
            self.context.progress.note(&note);
        }
        Ok(config)
    }

    /// Has make build the image.
    fn image(&self) -> Result<PathBuf> {
        let label = format!("building the kernel of {}", self.tree.display());
        let step = self.context.progress.step(label, None);
        self.make(&[&format!("-j{}", jobs()), "bzImage"], "build the kernel")?;
        step.done();
        let root = self.root();
        let found = tree::IMAGES.iter().map(|image| root.join(image)).find(|image| image.is_file());
        found.ok_or_else(|| Error::Incomplete { what: "build".to_owned(), path: root.join(tree::IMAGES[0]) })
    }

    fn make(&self, words: &[&str], doing: &str) -> Result<()> {
        let log = self.folder.join("log");
        let stderr = File::options().create(true).append(true).read(true).open(&log);
        let stderr = stderr.map_err(Error::io("create", &log))?;
        stderr.set_len(0).map_err(Error::io("write", &log))?;
        let mut command = Command::new(&self.make);
        command.arg("-C").arg(&self.tree).arg("ARCH=x86_64");
        if !self.in_place {
            command.arg(format!("O={}", self.objects().display()));
        }
        command.arg(format!("KCONFIG_CONFIG={}", self.config().display())).args(words);
        command.envs(BUILT_BY);
        for name in REMOVED {
            command.env_remove(name);
        }
        run_into(command, doing, &self.lock, &stderr, TAIL_LINES, || {}).map(drop)
    }
}

/// The programs that may compile the kernel, by the variables of the environment: the one that Linux's makefiles take, and that of
/// `CC`, which those set themselves and other makefiles need not.
fn compilers(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let chosen = match set("LLVM") {
        Some(folder) if folder.ends_with('/') => format!("{folder}clang"),
        Some(suffix) if suffix.starts_with('-') => format!("clang{suffix}"),
        Some(_) => "clang".to_owned(),
        None => format!("{}gcc", set("CROSS_COMPILE").unwrap_or_default()),
    };
    // Words before the compiler start it, as ccache does; flags are behind it.
    let program = |words: String| {
        let word = words.split_whitespace().rfind(|word| !word.starts_with('-'));
        word.map(str::to_owned)
    };
    [Some(chosen), set("CC")].into_iter().flatten().filter_map(program).collect()
}

/// As many as there are CPUs for this process.
fn jobs() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests;
