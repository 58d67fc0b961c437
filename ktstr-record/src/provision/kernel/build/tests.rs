//! Builds of a tree that stands in for Linux: its Makefile copies an image in the place of compiling one, and notes that it did.

use std::ffi::OsString;

use super::super::super::cache::Cache;
use super::super::super::host::Host;
use super::super::super::progress::Progress;
use super::super::image::synthetic;
use super::super::tree::tests::source_tree;
use super::*;

/// Rules that do as Linux's do with `O=` and `KCONFIG_CONFIG`; `olddefconfig` keeps all but `$(DROPPED)`.
const RULES: &str = r#"
OUT := $(or $(O),.)
KCONFIG_CONFIG ?= $(OUT)/.config
x86_64_defconfig:
	echo "CONFIG_DEFAULT=y" > $(KCONFIG_CONFIG)
olddefconfig:
	grep -v "$(or $(DROPPED),nothing at all)" $(KCONFIG_CONFIG) > $(KCONFIG_CONFIG).new; mv $(KCONFIG_CONFIG).new $(KCONFIG_CONFIG)
bzImage:
	test "$(ARCH)" = x86_64
	grep -q '^broken$$' source.c && echo "source.c:1: error: it is broken" >&2 && exit 1 || true
	mkdir -p $(OUT)/arch/x86/boot
	cp image.bin $(OUT)/arch/x86/boot/bzImage
	echo built >> ../made
"#;

struct Stand {
    dir: tempfile::TempDir,
    context: Context,
}

impl Stand {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("ktstr")).unwrap();
        let host = Host { path: std::env::var_os("PATH").unwrap(), ..Host::current() };
        let stand = Self { context: Context { cache, host, progress: Progress::Silent }, dir };
        source_tree(&stand.tree());
        let makefile = fs::read_to_string(stand.tree().join("Makefile")).unwrap();
        stand.write("Makefile", &format!("{makefile}{RULES}"));
        stand.write(".gitignore", ".*\n*.o\n/arch/x86/boot/bzImage\n!.gitignore\n");
        stand.write("source.c", "int x;\n");
        let image = synthetic::bzimage(&synthetic::gzip(&synthetic::elf(true)));
        fs::write(stand.tree().join("image.bin"), image).unwrap();
        stand
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("linux")
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.tree().join(path), text).unwrap();
    }

    fn build(&self) -> Result<Kernel> {
        build(&self.context, &self.tree())
    }

    /// How often make built an image.
    fn times(&self) -> usize {
        fs::read_to_string(self.dir.path().join("made")).unwrap_or_default().lines().count()
    }
}

#[test]
fn the_same_source_is_built_once_and_another_again() {
    let stand = Stand::new();
    let first = stand.build().unwrap();
    assert_eq!((first.release.as_str(), stand.times()), (synthetic::RELEASE, 1));
    assert!(!stand.tree().join("arch/x86/boot/bzImage").exists(), "a clean tree is left clean");
    assert_eq!(stand.build().unwrap().vmlinux, first.vmlinux);
    assert_eq!(stand.times(), 1);
    stand.write("source.c", "int y;\n");
    assert_ne!(stand.build().unwrap().vmlinux, first.vmlinux);
    assert_eq!(stand.times(), 2);
    // Back to what was built first.
    stand.write("source.c", "int x;\n");
    assert_eq!(stand.build().unwrap().vmlinux, first.vmlinux);
    assert_eq!(stand.times(), 2);
}

#[test]
fn the_configuration_of_the_tree_is_kept_and_what_tests_need_is_over_it() {
    let stand = Stand::new();
    let own = "CONFIG_MINE=y\n# CONFIG_PVH is not set\nCONFIG_KALLSYMS_ALL=n\n";
    stand.write(".config", own);
    let kernel = stand.build().unwrap();
    assert_eq!(fs::read_to_string(stand.tree().join(".config")).unwrap(), own);
    assert!(stand.tree().join("arch/x86/boot/bzImage").exists(), "it was configured in place");
    let config = fs::read(kernel.bzimage.unwrap().with_file_name("config")).unwrap();
    assert_eq!(needs::values(&config).get("CONFIG_MINE"), Some(&"y"));
    assert!(needs::check(&config).iter().all(needs::OptionCheck::is_met));
    // Another configuration is another kernel.
    stand.write(".config", "CONFIG_MINE=n\n");
    stand.build().unwrap();
    assert_eq!(stand.times(), 2);
}

#[test]
fn options_that_make_leaves_out_are_named() {
    let stand = Stand::new();
    let makefile = fs::read_to_string(stand.tree().join("Makefile")).unwrap();
    stand.write("Makefile", &format!("DROPPED = CONFIG_DEBUG_INFO_BTF=\n{makefile}"));
    let text = stand.build().unwrap_err().to_string();
    assert!(text.contains("CONFIG_DEBUG_INFO_BTF;") && text.contains("pahole"), "{text}");
    assert_eq!(stand.times(), 0);
    // What only one feature needs is left out.
    stand.write("Makefile", &format!("DROPPED = CONFIG_NUMA=\n{makefile}"));
    stand.build().unwrap();
}

#[test]
fn a_build_that_fails_shows_what_make_said() {
    let stand = Stand::new();
    stand.write("source.c", "broken\n");
    let text = stand.build().unwrap_err().to_string();
    assert!(
        text.contains("cannot build the kernel") && text.contains("source.c:1: error: it is broken"),
        "{text}"
    );
    stand.write("source.c", "int x;\n");
    stand.build().unwrap();
}

#[test]
fn a_source_that_changes_while_it_is_built_is_built_again() {
    let stand = Stand::new();
    let makefile = fs::read_to_string(stand.tree().join("Makefile")).unwrap();
    stand.write("Makefile", &format!("{makefile}\techo 'int z;' > source.c\n"));
    stand.build().unwrap();
    stand.build().unwrap();
    assert_eq!(stand.times(), 2, "the first build was of two sources");
    stand.build().unwrap();
    assert_eq!(stand.times(), 2);
}

#[test]
fn the_compiler_is_the_one_that_linux_takes() {
    for (variables, expected) in [
        (&[][..], &["gcc"][..]),
        (&[("LLVM", "")], &["gcc"]),
        (&[("LLVM", "1"), ("CROSS_COMPILE", "x86_64-linux-gnu-")], &["clang"]),
        (&[("LLVM", "-18")], &["clang-18"]),
        (&[("LLVM", "/opt/llvm/bin/")], &["/opt/llvm/bin/clang"]),
        (&[("CROSS_COMPILE", "x86_64-linux-gnu-")], &["x86_64-linux-gnu-gcc"]),
        (&[("CROSS_COMPILE", "ccache x86_64-linux-gnu-")], &["x86_64-linux-gnu-gcc"]),
        (&[("CC", "ccache clang-19 -m64")], &["gcc", "clang-19"]),
    ] {
        let value = |name: &str| {
            let mut pairs = variables.iter();
            pairs.find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(compilers(value), expected, "{variables:?}");
    }
}

#[test]
fn what_cannot_be_built_says_why() {
    let stand = Stand::new();
    let elsewhere = stand.dir.path().join("ktstr");
    let text = build(&stand.context, &elsewhere).unwrap_err().to_string();
    assert!(text.contains("no kernel source tree"), "{text}");
    let without =
        Context { host: Host { path: OsString::new(), ..Host::current() }, ..stand.context.clone() };
    let text = build(&without, &stand.tree()).unwrap_err().to_string();
    assert!(text.contains("looked for `make`"), "{text}");
}
