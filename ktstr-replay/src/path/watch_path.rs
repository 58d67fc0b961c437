//! What watches saw: `watch("bss.nr_stalls").fires`, `watch("scx_root->exit_kind")`.

use std::fmt;

use super::error::SyntaxError;
use super::parse::{Parser, names};

/// A number of a watch, as of the time of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WatchPath {
    /// What is watched, as its author wrote it.
    pub target: String,
    /// Which number.
    pub field: WatchField,
}

names! {
    /// A number of a watch.
    WatchField {
        /// What its last fire stored.
        New = "new",
        /// What was there before its last fire.
        Old = "old",
        /// How often it had fired.
        Fires = "fires",
        /// The vCPU that stored last.
        Cpu = "cpu",
    }
}

impl WatchPath {
    /// What stands behind `watch`.
    pub(super) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        p.expect("(")?;
        let target = p.name("what is watched, in quotes, as `watch(\"bss.x\")`")?;
        p.expect(")")?;
        let field =
            if p.eat(".") { p.name_of("number of a watch", WatchField::ALL)? } else { WatchField::New };
        Ok(Self { target, field })
    }
}

impl fmt::Display for WatchPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = self.target.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "watch(\"{quoted}\").{}", self.field.name())
    }
}

#[cfg(test)]
mod tests {
    use crate::path::{Projection, SyntaxError};

    #[test]
    fn watches_are_named_by_what_they_watch() {
        for (text, printed) in [
            ("watch(\"scx_root->exit_kind\")", "watch(\"scx_root->exit_kind\").new"),
            ("watch(\"bss.x\").fires", "watch(\"bss.x\").fires"),
            ("watch(jiffies_64).cpu", "watch(\"jiffies_64\").cpu"),
        ] {
            let parsed: Projection = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(parsed.to_string(), printed);
            assert_eq!(printed.parse(), Ok(parsed));
        }
        // A variable of that name is one.
        assert!(matches!("watch.x".parse(), Ok(Projection::Var(_))));
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, at) in [("watch()", 6..7), ("watch(bss.x)", 9..10), ("watch(x).fire", 9..13)] {
            let error = text.parse::<Projection>().expect_err(text);
            assert_eq!(error.span, at, "{}", error.render());
        }
    }
}
