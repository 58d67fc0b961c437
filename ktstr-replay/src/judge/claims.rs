//! The claims of a run.

use std::collections::HashMap;

use crate::claim::Claim;
use crate::path::Projection;
use crate::series::Column;
use crate::trace::record::ClaimOrigin;
use crate::verdict::{Finding, Origin, Outcome};

use crate::run::Run;

/// Judge the recorded claims, or `given` in their place. Columns that claims share are made once.
pub(super) fn judge(run: &Run<'_>, given: Option<&[Claim]>) -> Vec<Finding> {
    let claims: Vec<Result<Claim, Finding>> = match given {
        Some(claims) => claims.iter().cloned().map(Ok).collect(),
        None => {
            let data = run.claims.iter().filter(|c| c.origin == ClaimOrigin::Data);
            data.map(|c| c.text.parse().map_err(|e| unreadable(&c.text, &e))).collect()
        }
    };
    let series = run.subject();
    let mut wanted: Vec<&Projection> = Vec::new();
    for projection in claims.iter().flatten().flat_map(Claim::projections) {
        if !wanted.contains(&projection) {
            wanted.push(projection);
        }
    }
    let columns = series.columns_with(run.trace, &wanted);
    let columns: HashMap<Projection, Column> =
        columns.into_iter().map(|column| (column.projection.clone(), column)).collect();
    let look = |claim: Claim| {
        let of: Vec<_> = claim.projections().into_iter().filter_map(|p| columns.get(p)).collect();
        Finding::of_claim(&claim, &claim.judge(&of), &of)
    };
    claims.into_iter().map(|claim| claim.map_or_else(|finding| finding, look)).collect()
}

/// A recorded claim that does not parse, as in a trace of a newer release.
fn unreadable(text: &str, error: &crate::path::SyntaxError) -> Finding {
    let lines = error.render().lines().map(str::to_owned).collect();
    Finding::new(Origin::Claim, text, Outcome::Fail, "error: this release cannot read the claim")
        .with_lines(lines)
}
