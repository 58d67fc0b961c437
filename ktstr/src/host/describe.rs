//! A test that is asked what it is, and not run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::environment::DESCRIBE;
use crate::description::TestDescription;
use crate::test_def::TestDef;

/// Write the description of the test into a file of its own in `folder`.
///
/// # Errors
/// Always: a test that was not run has not passed.
pub fn describe(def: &TestDef, folder: &Path) -> Result<()> {
    let path = folder.join(format!("{}.json", def.path.replace("::", ".")));
    let text = serde_json::to_vec(&TestDescription::of(def)).context("could not write the description")?;
    fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    bail!("the test was not run: {DESCRIBE} asks what it is, which is in {}", path.display())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::host::tests::TEST;

    #[test]
    fn a_test_that_is_asked_says_what_it_is_and_does_not_pass() {
        let folder = TempDir::new().expect("a folder");
        let error = describe(&TEST, folder.path()).expect_err("not a pass").to_string();
        assert!(error.contains("was not run"), "{error}");
        let text = fs::read(folder.path().join("demo.two.json")).expect("a file");
        let read: TestDescription = serde_json::from_slice(&text).expect("a description");
        assert_eq!(read, TestDescription::of(&TEST));
    }
}
