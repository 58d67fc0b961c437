//! Where steps are missing, as one goes through the others.

use std::collections::HashMap;

use super::MissingSteps;
use crate::units::{Cpu, GuestNs};

/// Up to when steps are missing, of all gaps that have begun.
#[derive(Default)]
pub(super) struct Blind {
    pub(super) of: HashMap<Cpu, GuestNs>,
    pub(super) all: GuestNs,
}

impl Blind {
    /// A gap has begun.
    pub(super) fn begin(&mut self, missing: &MissingSteps) {
        let (_, until) = missing.span();
        let of = self.of.entry(missing.cpu).or_default();
        *of = until.max(*of);
        self.all = until.max(self.all);
    }

    /// Whether steps of `cpu` are missing since then.
    pub(super) fn since(&self, cpu: Cpu, since: GuestNs) -> bool {
        self.of.get(&cpu).is_some_and(|until| *until > since)
    }
}
