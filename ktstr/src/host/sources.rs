//! Where the files of a test's package are now. A test binary that is run elsewhere, out of `cargo nextest archive` or on
//! another machine, has the folders of the machine that compiled it in it, and another checkout may be there.

use std::env;
use std::path::{Path, PathBuf};

use crate::test_def::TestDef;

/// The folder of the package whose tests run. cargo and nextest set it, nextest with `--workspace-remap` in mind.
const PACKAGE_FOLDER: &str = "CARGO_MANIFEST_DIR";
/// The package, by which a variable of another program is told from the runner's.
const PACKAGE: &str = "CARGO_PKG_NAME";
/// The folder of the workspace, of nextest.
const WORKSPACE_FOLDER: &str = "NEXTEST_WORKSPACE_ROOT";

/// The workspace that tests are run in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Its folder when the test was compiled, and now; `None`: as it was compiled.
    moved: Option<(PathBuf, PathBuf)>,
    /// Its folder now, where the runner tells.
    workspace: Option<PathBuf>,
}

impl Sources {
    /// Those of a test, as its runner tells this process.
    pub fn of(def: &TestDef) -> Self {
        let is_package = |folder: &Path| folder.join("Cargo.toml").is_file();
        Self::find(def, |name| env::var_os(name).map(PathBuf::from), is_package)
    }

    fn find(
        def: &TestDef,
        get: impl Fn(&str) -> Option<PathBuf>,
        is_package: impl Fn(&Path) -> bool,
    ) -> Self {
        let Some(now) = get(PACKAGE_FOLDER).filter(|folder| folder.is_absolute()) else {
            return Self::default();
        };
        if get(PACKAGE).is_none_or(|package| package != Path::new(def.package)) {
            return Self::default();
        }
        let compiled = Path::new(def.manifest_dir);
        // The package is at the same place in its workspace, so that both paths end alike.
        let same = compiled.components().rev().zip(now.components().rev());
        let same = same.take_while(|(compiled, now)| compiled == now).count();
        let told = get(WORKSPACE_FOLDER).filter(|folder| now.starts_with(folder));
        let candidates = now.ancestors().take(same + 1);
        let workspace = match &told {
            Some(folder) => candidates.into_iter().find(|at| at == folder),
            None => {
                // The root folder was no workspace: all other folders of the host would have moved with it.
                let below_root = compiled.components().count().saturating_sub(1).max(1);
                candidates.take(below_root).filter(|at| *at == now || is_package(at)).last()
            }
        };
        let workspace = workspace.unwrap_or(&now);
        let depth = now.components().count() - workspace.components().count();
        let was = compiled.ancestors().nth(depth).unwrap_or(compiled);
        let moved = (compiled != now).then(|| (was.to_owned(), workspace.to_owned()));
        Self { moved, workspace: Some(told.unwrap_or_else(|| workspace.to_owned())) }
    }

    /// Where a folder of the workspace is now that was at `compiled` when the test was compiled. Folders elsewhere are where
    /// they were.
    pub fn now(&self, compiled: &str) -> PathBuf {
        let compiled = Path::new(compiled);
        let moved = self.moved.as_ref().and_then(|(was, now)| {
            let rest = compiled.strip_prefix(was).ok()?;
            // Joined with nothing, a path gets a slash at its end.
            Some(if rest.as_os_str().is_empty() { now.clone() } else { now.join(rest) })
        });
        moved.unwrap_or_else(|| compiled.to_owned())
    }

    /// The folder of the workspace now, where the runner tells.
    pub fn workspace(&self) -> Option<&Path> {
        self.workspace.as_deref()
    }

    /// Both folders, if they differ.
    pub fn moved(&self) -> Option<(&Path, &Path)> {
        self.moved.as_ref().map(|(was, now)| (was.as_path(), now.as_path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::TEST;

    fn sources(compiled: &'static str, variables: &[(&str, &str)], packages: &[&str]) -> Sources {
        let def = TestDef { manifest_dir: compiled, ..TEST };
        let get = |name: &str| variables.iter().find(|(of, _)| *of == name).map(|(_, value)| value.into());
        Sources::find(&def, get, |folder| packages.iter().any(|package| folder == Path::new(package)))
    }

    /// The sources of the old checkout were tested in silence.
    #[test]
    fn a_package_that_is_elsewhere_takes_the_others_of_its_workspace_along() {
        let variables = [(PACKAGE, "demo"), (PACKAGE_FOLDER, "/new/ws/crates/demo")];
        let found = sources("/old/ws/crates/demo", &variables, &["/new/ws", "/new/ws/crates/demo"]);
        assert_eq!(found.now("/old/ws/crates/demo"), Path::new("/new/ws/crates/demo"));
        // Above a folder that is no package.
        assert_eq!(found.now("/old/ws/crates/sched"), Path::new("/new/ws/crates/sched"));
        let found =
            sources("/old/ws/demo", &[(PACKAGE, "demo"), (PACKAGE_FOLDER, "/new/ws/demo")], &["/new/ws"]);
        assert_eq!(found.now("/old/ws/sched"), Path::new("/new/ws/sched"));
        assert_eq!(found.now("/old/ws"), Path::new("/new/ws"));
        assert_eq!(found.now("/registry/sched-1.0"), Path::new("/registry/sched-1.0"));
        assert_eq!(found.workspace(), Some(Path::new("/new/ws")));
        assert_eq!(found.moved(), Some((Path::new("/old/ws"), Path::new("/new/ws"))));
    }

    /// With the root folder as the workspace, what is outside of it was looked for inside.
    #[test]
    fn what_is_outside_of_the_workspace_stays_though_all_folders_above_a_package_are_called_the_same() {
        for (compiled, now) in [("/ws/demo", "/home/ws/demo"), ("/demo", "/home/demo")] {
            let variables = [(PACKAGE, "demo"), (PACKAGE_FOLDER, now)];
            let found = sources(compiled, &variables, &["/home", "/home/ws", "/home/ws/demo", "/home/demo"]);
            assert_eq!(found.now("/registry/sched-1.0"), Path::new("/registry/sched-1.0"), "{found:?}");
            assert_eq!(found.now(compiled), Path::new(now), "{found:?}");
        }
    }

    #[test]
    fn nextest_says_which_folder_the_workspace_is() {
        let variables =
            [(PACKAGE, "demo"), (PACKAGE_FOLDER, "/new/ws/crates/demo"), (WORKSPACE_FOLDER, "/new/ws")];
        let found = sources("/c4/ws/crates/demo", &variables, &[]);
        assert_eq!(found.now("/c4/ws/sched"), Path::new("/new/ws/sched"));
        let root = [(PACKAGE, "demo"), (PACKAGE_FOLDER, "/x"), (WORKSPACE_FOLDER, "/x")];
        assert_eq!(sources("/c4/a", &root, &[]).now("/c4/a/scx_demo"), Path::new("/x/scx_demo"));
    }

    #[test]
    fn without_a_runner_or_with_the_variables_of_another_program_it_is_where_it_was() {
        for variables in [&[][..], &[(PACKAGE, "other"), (PACKAGE_FOLDER, "/x/other")]] {
            let found = sources("/ws/demo", variables, &["/x", "/x/other"]);
            assert_eq!(found, Sources::default());
            assert_eq!(found.now("/ws/demo"), Path::new("/ws/demo"));
        }
        let same = [(PACKAGE, "demo"), (PACKAGE_FOLDER, "/ws/demo")];
        let found = sources("/ws/demo", &same, &["/ws"]);
        assert_eq!((found.moved(), found.workspace()), (None, Some(Path::new("/ws"))));
    }
}
