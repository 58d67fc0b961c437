//! A test that is asked for its limits, and not run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::environment::SHOW_THRESHOLDS;
use crate::test_def::TestDef;

/// Write the limits of the test into a file of its own in `folder`.
///
/// # Errors
/// Always: a test that was not run has not passed.
pub fn show(def: &TestDef, folder: &Path) -> Result<()> {
    let path = folder.join(format!("{}.txt", def.path.replace("::", ".")));
    fs::write(&path, text(def)).with_context(|| format!("could not write {}", path.display()))?;
    bail!("the test was not run: {SHOW_THRESHOLDS} asks for its limits, which are in {}", path.display())
}

fn text(def: &TestDef) -> String {
    let scheduler = def.scheduler.map_or("the kernel's own scheduler", |scheduler| scheduler.name);
    format!("{} ({scheduler})\n{}", def.path, def.limits())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::host::tests::TEST;
    use crate::limits::Assert;

    #[test]
    fn a_test_that_is_asked_says_its_limits_and_does_not_pass() {
        let folder = TempDir::new().expect("a folder");
        let def = TestDef { assert: Assert::NONE.max_gap_ms(100), ..TEST };
        let error = show(&def, folder.path()).expect_err("not a pass").to_string();
        assert!(error.contains("was not run"), "{error}");
        let text = fs::read_to_string(folder.path().join("demo.two.txt")).expect("a file");
        assert!(text.starts_with("demo::two (the kernel's own scheduler)\n  max_gap_ms "), "{text}");
    }
}
