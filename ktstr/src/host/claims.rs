//! The claims of a test's attribute.

use ktstr_replay::claim::Claim;
use ktstr_replay::path::SyntaxError;

use crate::test_def::TestDef;

/// Claims that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{} of {path}'s claims cannot be read:\n{}", errors.len(), shown(errors))]
pub struct ClaimErrors {
    path: &'static str,
    errors: Vec<SyntaxError>,
}

/// The claims, in the order in which they were written.
///
/// # Errors
/// Every claim that cannot be read, each with a caret under its fault.
pub fn parse(def: &TestDef) -> Result<Vec<Claim>, ClaimErrors> {
    let (mut claims, mut errors) = (Vec::new(), Vec::new());
    for text in def.claims {
        match text.parse() {
            Ok(claim) => claims.push(claim),
            Err(error) => errors.push(error),
        }
    }
    match errors.is_empty() {
        true => Ok(claims),
        false => Err(ClaimErrors { path: def.path, errors }),
    }
}

fn shown(errors: &[SyntaxError]) -> String {
    errors.iter().map(SyntaxError::render).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::TEST;

    #[test]
    fn claims_keep_their_order() {
        let def = TestDef { claims: &["each(x >= 1)", "nondecreasing(y)"], ..TEST };
        let claims: Vec<String> = parse(&def).expect("claims").iter().map(Claim::to_string).collect();
        assert_eq!(claims, ["each(x >= 1)", "nondecreasing(y)"]);
    }

    #[test]
    fn every_fault_is_shown_with_a_caret() {
        let def = TestDef { claims: &["each(x >= )", "nondecreasing(y)", "nondecresing(y)"], ..TEST };
        let error = parse(&def).expect_err("two faults").to_string();
        assert!(error.starts_with("2 of demo::two's claims"), "{error}");
        assert_eq!(error.matches('^').count().min(2), 2, "{error}");
        assert!(error.contains("nondecreasing"), "{error}");
    }
}
