//! The parser of claims and paths: what parses prints, and the print parses to the same.
#![no_main]

use ktstr_replay::claim::Claim;
use ktstr_replay::path::{FieldPath, Projection};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(claim) = text.parse::<Claim>() {
        let printed = claim.to_string();
        let again: Claim = printed.parse().unwrap_or_else(|e| panic!("{printed:?} does not parse: {e}"));
        assert_eq!(printed, again.to_string());
    }
    if let Ok(projection) = text.parse::<Projection>() {
        let printed = projection.to_string();
        let again: Projection = printed.parse().unwrap_or_else(|e| panic!("{printed:?} does not parse: {e}"));
        assert_eq!(projection, again, "{printed}");
    }
    if let Ok(path) = text.parse::<FieldPath>() {
        let printed = path.to_string();
        let again: FieldPath = printed.parse().unwrap_or_else(|e| panic!("{printed:?} does not parse: {e}"));
        assert_eq!(path, again, "{printed}");
    }
});
