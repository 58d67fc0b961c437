//! Host mode: from a test's description to its verdict.

mod failure;

pub use failure::TestFailure;

use crate::guest;
use crate::test_def::TestDef;

/// Run a test, wherever this process is: the one function that `#[ktstr_test]` calls.
///
/// # Errors
/// [`TestFailure`] when the test did not pass.
pub fn run(def: &'static TestDef) -> Result<(), TestFailure> {
    match guest::place() {
        Ok(guest::Place::Guest(socket)) => guest::run(def, socket),
        Ok(guest::Place::Host) => Ok(()),
        Err(error) => Err(TestFailure::from_error(error)),
    }
}
