//! What a view of a kernel could not show, and why.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::Serialize;

use super::FieldMissing;

/// Most faults that are kept: memory that is all wrong has one for each object.
const MAX_FAULTS: usize = 64;

/// What is absent from a view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gaps {
    /// Fields that this kernel does not have; the view shows `-`, or null, in their place.
    pub missing: BTreeSet<String>,
    /// What the kernel has and that could not be read, in the order in which it was met.
    pub faults: Vec<String>,
    /// Faults beyond those in `faults`.
    pub more_faults: usize,
}

impl Gaps {
    /// The field's value; where the kernel has no such field, the reason is kept.
    pub fn field<T>(&mut self, field: Result<T, FieldMissing>) -> Option<T> {
        field.map_err(|missing| self.missing.insert(missing.to_string())).ok()
    }

    /// Keep a fault.
    pub fn fault(&mut self, fault: impl Display) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault.to_string());
        } else {
            self.more_faults += 1;
        }
    }

    /// The value; an error is kept as a fault of `what`.
    pub fn read<T, E: Display>(&mut self, what: impl Display, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.fault(format_args!("{what}: {error}"))).ok()
    }

    /// Whether nothing is absent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.faults.is_empty()
    }
}
