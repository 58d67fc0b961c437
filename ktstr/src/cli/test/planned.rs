//! What of the gauntlet a run is for.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ktstr_record::machine;

use super::kernels::Pass;
use super::runner::{names_in, split_at_test_words, split_filters};
use super::{Signals, TestArgs, profile};
use crate::cli::asked::printed;
use crate::cli::gauntlet::Plan;
use crate::cli::out;
use crate::description::TestDescription;
use crate::workspace::Workspace;

/// nextest's configuration of a workspace.
const CONFIGURATION: &str = ".config/nextest.toml";
/// What in it leaves tests out that are given by name, too.
const DEFAULT_FILTER: &str = "default-filter";

impl TestArgs {
    /// What of the gauntlet is run, if it is asked for; its reader is told.
    pub(super) fn plan(&self, tests: &[TestDescription], passes: &[Pass]) -> Result<Option<Plan>> {
        if !self.gauntlet {
            return Ok(None);
        }
        if tests.is_empty() {
            bail!(
                "no test with #[ktstr_test] has `{}` in its name",
                self.filter.as_deref().unwrap_or_default()
            );
        }
        let mut machine = passes.first().context("no kernel")?.machine();
        machine.performance = self.performance_of_all();
        let plan = Plan::new(tests, &machine, self.budget, machine::carries)?;
        out::note(&plan.summary());
        Ok(Some(plan))
    }

    /// Whether nextest may be told to run less than all of what it is given.
    pub(super) fn chooses(&self, workspace: &Workspace) -> bool {
        let (_, of_tests) = split_at_test_words(&self.rest);
        self.options.part(&self.rest).is_some()
            || !split_filters(&self.rest).0.is_empty()
            || !names_in(&self.rest).is_empty()
            || of_tests.len() > 1
            || !self.options.configuration_words(&self.rest).is_empty()
            || may_leave_out(&workspace.workspace_root)
    }

    /// Plan only what of the gauntlet this run is for: its part of it, and of that what it is to choose, as nextest will; its reader is told.
    ///
    /// # Errors
    /// A list that cannot be had: then nobody would notice a variant that left no trace.
    pub(super) fn keep_listed(
        &self,
        plan: &mut Plan,
        workspace: &Workspace,
        signals: &mut Signals,
    ) -> Result<()> {
        let all = plan.count();
        let part = self.options.part(&self.rest);
        let mut rest = profile::words(&workspace.workspace_root);
        rest.extend(self.options.configuration_words(&self.rest));
        rest.extend(self.words_of_build("--cargo-profile", "--cargo-profile"));
        let (filters, _) = split_filters(&self.rest);
        rest.extend(filters.into_iter().flat_map(|filter| ["-E".to_owned(), filter]));
        // Names of tests, here and behind the `--`, and what is to be skipped.
        rest.extend(names_in(&self.rest));
        rest.extend_from_slice(split_at_test_words(&self.rest).1);
        let mut command = self.cargo();
        command.args(plan.listing(part.as_deref(), &rest));
        let (status, listed) = printed(&mut command, Some(signals))?;
        if !status.success() {
            bail!("cargo nextest list, which tells which of the variants it would run, ended with {status}");
        }
        plan.keep_listed(&listed)?;
        let which = part.map_or_else(|| "chosen".to_owned(), |part| format!("in the part {part}"));
        out::note(&format!("gauntlet: {} of these {all} are {which}", plan.count()));
        Ok(())
    }
}

/// Whether the workspace's own configuration of nextest may leave tests out.
fn may_leave_out(workspace: &Path) -> bool {
    fs::read_to_string(workspace.join(CONFIGURATION)).is_ok_and(|text| text.contains(DEFAULT_FILTER))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// What nextest left out by itself was missed, as if it had run and left no trace.
    #[test]
    fn it_is_looked_what_runs_where_less_than_all_may() {
        let folder = TempDir::new().expect("a folder");
        let workspace = |root: PathBuf| Workspace { workspace_root: root, ..Workspace::default() };
        let chooses = |rest: &str, root: &Path| {
            let rest = rest.split_whitespace().map(str::to_owned).collect();
            TestArgs::of(None, Vec::new(), rest).chooses(&workspace(root.to_owned()))
        };
        let all = ["", "--release", "--retries 2 --no-capture", "--"];
        assert!(all.iter().all(|rest| !chooses(rest, folder.path())));
        for rest in ["name", "-E test(a)", "--partition count:1/2", "-P ci", "--config-file=a", "-- --skip a"]
        {
            assert!(chooses(rest, folder.path()), "{rest}");
        }
        fs::create_dir(folder.path().join(".config")).expect("a folder");
        let write = |text: &str| fs::write(folder.path().join(CONFIGURATION), text).expect("a file");
        write("[profile.default]\nretries = 2\n");
        assert!(!chooses("", folder.path()));
        write("[profile.default]\ndefault-filter = 'not test(slow)'\n");
        assert!(chooses("", folder.path()));
    }
}
