//! `cargo ktstr new`: a scheduler with a test, to begin with.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::commands::CommandArgs;
use super::out;

/// The name that the templates have.
const TEMPLATE_NAME: &str = "scx_mine";
/// What stands for the library's path in the template of the package.
const LIBRARY_PLACE: &str = "@LIBRARY@";
/// Begins what marks a part of a file for the guide.
const ANCHOR: &str = "/* ANCHOR";
/// Longest name, in bytes, without `scx_`, so that it fits into the lines of reports.
const MAX_SHORT_NAME: usize = 24;

/// The files, each with its path in the new folder. What is called `scx_mine` here and there gets the name that was given.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("../../templates/new/Cargo.toml.template")),
    (".gitignore", "/target\n"),
    ("src/lib.rs", include_str!("../../templates/new/lib.rs")),
    ("tests/scx_mine.rs", include_str!("../../templates/new/tests.rs")),
    ("scx_mine/scx_mine.bpf.c", include_str!("../../templates/new/scx_mine/scx_mine.bpf.c")),
    ("scx_mine/scx_mine.c", include_str!("../../templates/new/scx_mine/scx_mine.c")),
];

/// Write a package with a sched_ext scheduler in C, its loader, and a test of it that passes.
#[derive(Args, Clone, Debug)]
pub struct NewArgs {
    /// The scheduler's name, as `scx_mine`: also that of the folder, which must not exist yet.
    name: String,
    /// The folder of the ktstr library that the tests are written with (default: that of the ktstr which this program was built from).
    #[arg(long, value_name = "FOLDER")]
    ktstr: Option<PathBuf>,
}

impl CommandArgs for NewArgs {
    fn run(self) -> Result<ExitCode> {
        let short = short_name(&self.name)?;
        let library = library(self.ktstr)?;
        let here = env::current_dir().context("could not find the working folder")?;
        write(&here.join(&self.name), &self.name, short, &library)?;
        let name = &self.name;
        out::write(&format!(
            "{name}/{name}/{name}.bpf.c  the scheduler\n\
             {name}/tests/{name}.rs    its test\n\
             next: cd {name} && cargo ktstr test\n"
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The name without `scx_`, by which reports call the scheduler.
///
/// # Errors
/// What cannot be the name of C functions and of a package.
fn short_name(name: &str) -> Result<&str> {
    let short = name.strip_prefix("scx_").unwrap_or_default();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if short.is_empty() || short.len() > MAX_SHORT_NAME || !short.chars().all(plain) {
        bail!(
            "`{name}` cannot be the name of a scheduler: it is `scx_` and at most {MAX_SHORT_NAME} small letters, digits and `_`, as scx_mine"
        );
    }
    Ok(short)
}

/// The folder of the library.
///
/// # Errors
/// A folder that has no package of that name.
fn library(given: Option<PathBuf>) -> Result<PathBuf> {
    let folder = given.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| {
        format!("could not read {}: give the folder of the ktstr library by --ktstr", manifest.display())
    })?;
    if !text.lines().any(|line| line.trim() == r#"name = "ktstr""#) {
        bail!("{} is not that of the package `ktstr`: give its folder by --ktstr", manifest.display());
    }
    fs::canonicalize(&folder).with_context(|| format!("could not resolve {}", folder.display()))
}

fn write(folder: &Path, name: &str, short: &str, library: &Path) -> Result<()> {
    if folder.exists() {
        bail!("{} exists already: nothing was written", folder.display());
    }
    // As TOML writes it, whatever is in the path.
    let path =
        serde_json::to_string(&library.to_string_lossy()).context("could not write the library's path")?;
    // The longest first, so that nothing takes a part of it.
    let names = [
        (LIBRARY_PLACE, path),
        ("SCX_MINE", name.to_uppercase()),
        (TEMPLATE_NAME, name.to_owned()),
        ("\"mine\"", format!("\"{short}\"")),
        ("mine_", format!("{short}_")),
    ];
    for (place, template) in FILES {
        let file = folder.join(replaced(place, &names));
        let parent = file.parent().unwrap_or(folder);
        fs::create_dir_all(parent).with_context(|| format!("could not make {}", parent.display()))?;
        fs::write(&file, replaced(&without_anchors(template), &names))
            .with_context(|| format!("could not write {}", file.display()))?;
    }
    Ok(())
}

/// `template` without the lines by which the guide includes parts of it.
fn without_anchors(template: &str) -> String {
    template.split_inclusive('\n').filter(|line| !line.contains(ANCHOR)).collect()
}

/// `text` with the first of `names` that is at a place replaced; what stands in its stead is not looked at again.
fn replaced(text: &str, names: &[(&str, String)]) -> String {
    let (mut done, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        match names.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, with)) => {
                done.push_str(with);
                rest = &rest[name.len()..];
            }
            None => {
                done.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn read(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).expect("a file")
    }

    #[test]
    fn what_ci_tests_is_what_is_written() {
        let dir = TempDir::new().expect("a folder");
        let folder = dir.path().join(TEMPLATE_NAME);
        write(&folder, TEMPLATE_NAME, "mine", Path::new("/lib/ktstr")).expect("written");
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/new");
        for file in ["scx_mine/scx_mine.bpf.c", "scx_mine/scx_mine.c"] {
            assert_eq!(read(&folder, file), without_anchors(&read(&templates, file)));
        }
        assert!(!read(&folder, "scx_mine/scx_mine.bpf.c").contains("ANCHOR"));
        assert_eq!(read(&folder, "tests/scx_mine.rs"), read(&templates, "tests.rs"));
        let manifest = read(&folder, "Cargo.toml");
        assert!(manifest.contains("\nktstr = { path = \"/lib/ktstr\" }\n"), "{manifest}");
    }

    #[test]
    fn nothing_keeps_the_name_of_the_template() {
        let dir = TempDir::new().expect("a folder");
        let folder = dir.path().join("scx_other");
        write(&folder, "scx_other", "other", Path::new("/lib/ktstr")).expect("written");
        for file in [
            "Cargo.toml",
            "src/lib.rs",
            "tests/scx_other.rs",
            "scx_other/scx_other.bpf.c",
            "scx_other/scx_other.c",
        ] {
            let text = read(&folder, file);
            assert!(!text.to_lowercase().contains("mine"), "{file}:\n{text}");
        }
        assert!(
            read(&folder, "tests/scx_other.rs")
                .contains(r#"SCX_OTHER, { name = "other", source = "scx_other""#)
        );
        for (name, short) in
            [("scx_mine_2", "mine_2"), ("scx_ktstr", "ktstr"), ("scx_examine_x", "examine_x")]
        {
            let folder = dir.path().join(name);
            write(&folder, name, short, Path::new("/lib/ktstr")).expect("written");
            let test = read(&folder, &format!("tests/{name}.rs"));
            let declared = format!(r#"{}, {{ name = "{short}", source = "{name}""#, name.to_uppercase());
            assert!(test.contains(&declared), "{test}");
            let program = read(&folder, &format!("{name}/{name}.bpf.c"));
            assert!(program.contains(&format!("BPF_PROG({short}_enqueue, ")), "{program}");
        }
        let error = write(&folder, "scx_other", "other", Path::new("/lib/ktstr")).expect_err("there already");
        assert!(error.to_string().ends_with("exists already: nothing was written"));
    }

    #[test]
    fn names_that_no_scheduler_can_have_are_refused() {
        assert_eq!(short_name("scx_my_2nd").expect("a name"), "my_2nd");
        for odd in ["mine", "scx_", "scx_a b", "scx_Mine", "scx_../x", "scx_abcdefghijklmnopqrstuvwxyz"] {
            let error = short_name(odd).expect_err(odd).to_string();
            assert!(error.contains("as scx_mine"), "{error}");
        }
    }

    #[test]
    fn the_library_has_to_be_there() {
        assert!(library(None).expect("this package").ends_with("ktstr"));
        let dir = TempDir::new().expect("a folder");
        let error = library(Some(dir.path().to_owned())).expect_err("nothing there").to_string();
        assert!(error.contains("by --ktstr"), "{error}");
    }
}
