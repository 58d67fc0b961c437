//! A small program with DWARF stands for a kernel: our lines are those of binutils' `addr2line`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::read::{Object, ObjectSymbol};
use tempfile::TempDir;

use super::{BuildId, DebugInfo, DebugInfoError};
use crate::kernel::KernelProfile;
use crate::testing::Guest;
use crate::units::KernelVirt;

/// How far the test's kernel was moved from where it was linked to be.
const MOVED: u64 = 0x2ce0_0000;

/// `start_kernel` calls `outer`, into which two functions are inlined; at `-O2` the volatile accesses keep each alive.
const MAIN: &str = "\
volatile int seen;
static inline __attribute__((always_inline)) int innermost(int x)
{
\tseen = x;
\treturn seen + 1;
}
static inline __attribute__((always_inline)) int middle(int x)
{
\treturn innermost(x) * 2;
}
__attribute__((noinline)) int outer(int x)
{
\tint sum = middle(x);
\tsum += seen;
\treturn sum;
}
__attribute__((noinline)) int start_kernel(void)
{
\treturn outer(seen) + 1;
}
int main(void)
{
\treturn start_kernel();
}
";

struct Program {
    folder: TempDir,
    path: PathBuf,
}

impl Program {
    /// The program, compiled with `flags`.
    fn new(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("build/tree");
        fs::create_dir_all(tree.join("init")).unwrap();
        fs::write(tree.join("init/main.c"), MAIN).unwrap();
        let path = folder.path().join("vmlinux");
        let mut cc = Command::new("cc");
        // No PIE: addresses of symbols are those that it runs at, as in a kernel.
        cc.args(["-O2", "-no-pie", "-fno-pie", "-Wl,--build-id=sha1"]).args(flags).arg("-o").arg(&path);
        let built = cc.arg("init/main.c").current_dir(&tree).output().expect("a C compiler");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Self { folder, path }
    }

    fn build_id(&self) -> String {
        let bytes = fs::read(&self.path).unwrap();
        let id = object::File::parse(&*bytes).unwrap().build_id().unwrap().expect("a build-id").to_vec();
        BuildId::new(&id).to_string()
    }

    /// Address and size of a function, as linked.
    fn function(&self, name: &str) -> (u64, u64) {
        let bytes = fs::read(&self.path).unwrap();
        let elf = object::File::parse(&*bytes).unwrap();
        let symbol = elf.symbols().find(|symbol| symbol.name() == Ok(name)).expect("the function");
        (symbol.address(), symbol.size())
    }

    /// A trace's kernel that is this program, moved.
    fn profile(&self) -> KernelProfile {
        let mut guest = Guest::of(0, "");
        guest.symbol("start_kernel", self.function("start_kernel").0 + MOVED);
        guest.profile_with(&format!("BUILD-ID={}\nKERNELOFFSET={MOVED:x}\n", self.build_id()))
    }

    /// What `addr2line` says: pairs of function and `FILE:LINE`, innermost first.
    fn theirs(&self, at: u64) -> Vec<(String, String)> {
        let mut command = Command::new("addr2line");
        let output = command.args(["-f", "-i", "-e"]).arg(&self.path).arg(format!("{at:#x}")).output();
        let text = String::from_utf8(output.expect("binutils' addr2line").stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // What comes after a line, `(discriminator 3)`, is the compiler's.
        let place = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        lines.chunks(2).map(|pair| (pair[0].to_owned(), place(pair[1]))).collect()
    }
}

#[test]
fn every_instruction_has_the_lines_that_addr2line_says() {
    let program = Program::new(&["-g"]);
    let info = DebugInfo::of(&program.profile(), Some(&program.path)).unwrap();
    let mut most_inlined = 0;
    for function in ["outer", "start_kernel"] {
        let (at, size) = program.function(function);
        for at in at..at + size {
            let ours = info.lines(KernelVirt(at + MOVED));
            let theirs = program.theirs(at);
            let functions: Vec<_> = ours.iter().map(|line| line.function.clone().unwrap()).collect();
            assert_eq!(functions, theirs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), "{at:#x}");
            for (ours, (_, theirs)) in ours.iter().zip(&theirs) {
                // Theirs has the folder that it was built in; ours begins at the top of the tree.
                assert_eq!(ours.file.as_deref(), Some("init/main.c"));
                assert!(theirs.ends_with(&format!("/tree/{ours}")), "{theirs} and {ours}");
            }
            most_inlined = most_inlined.max(ours.len());
        }
    }
    assert_eq!(most_inlined, 3, "innermost in middle in outer");
    assert_eq!(info.lines(KernelVirt(0)), []);
}

#[test]
fn a_folder_is_searched_by_build_id() {
    let program = Program::new(&["-g"]);
    let (id, profile) = (program.build_id(), program.profile());
    let root = program.folder.path().join("root");
    let missing =
        DebugInfo::of(&profile, Some(program.folder.path().join("build").as_path())).map(|_| ()).unwrap_err();
    assert!(
        matches!(&missing, DebugInfoError::NotFound { looked, .. } if looked.contains(&id[2..])),
        "{missing}"
    );
    let place = root.join(format!("usr/lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..]));
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::copy(&program.path, place).unwrap();
    let info = DebugInfo::of(&profile, Some(&root)).unwrap();
    assert!(!info.lines(KernelVirt(program.function("outer").0 + MOVED)).is_empty());
}

#[test]
fn a_file_of_another_build_or_without_dwarf_is_refused_by_name() {
    let program = Program::new(&["-g"]);
    let other = Program::new(&["-g", "-DOTHER=1", "-O1"]);
    let of =
        |profile: &KernelProfile, path: &Path| DebugInfo::of(profile, Some(path)).map(|_| ()).unwrap_err();
    let error = of(&program.profile(), &other.path);
    assert!(matches!(error, DebugInfoError::OtherKernel { .. }), "{error}");
    assert!(error.to_string().contains(&program.build_id()) && error.to_string().contains(&other.build_id()));
    let stripped = Program::new(&["-s"]);
    let guest = Guest::of(0, "");
    let profile = guest.profile_with(&format!("BUILD-ID={}\n", stripped.build_id()));
    assert!(matches!(of(&profile, &stripped.path), DebugInfoError::Stripped { .. }));
    let text = program.folder.path().join("build/tree/init/main.c");
    assert!(matches!(of(&profile, &text), DebugInfoError::Unreadable { .. }));
    assert!(matches!(of(&guest.profile_with(""), &text), DebugInfoError::NoBuildId { .. }));
    assert!(matches!(of(&guest.profile_with("BUILD-ID=zz\n"), &text), DebugInfoError::NoBuildId { .. }));
}

#[test]
fn a_damaged_file_costs_lines_and_no_panic() {
    let program = Program::new(&["-g"]);
    let profile = program.profile();
    let (at, size) = program.function("outer");
    let whole = fs::read(&program.path).unwrap();
    let damaged = program.folder.path().join("damaged");
    for seed in 0..60_u64 {
        let mut bytes = whole.clone();
        for n in 0..40 {
            let place = (seed * 40 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize % bytes.len();
            bytes[place] ^= 0xff;
        }
        if seed % 4 == 0 {
            bytes.truncate(bytes.len() * (seed as usize + 1) / 64);
        }
        fs::write(&damaged, bytes).unwrap();
        if let Ok(info) = DebugInfo::of(&profile, Some(&damaged)) {
            for at in at..at + size {
                assert!(info.lines(KernelVirt(at + MOVED)).len() <= 64);
            }
        }
    }
}
