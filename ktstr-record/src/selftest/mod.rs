//! `ktstr selftest kvm`: the KVM machine tried out on this host, from single instructions to recorded runs.
//!
//! ```text
//! machine     its parts, by tiny guests                              machine::selftest_kvm
//! recorded    a tiny guest, recorded and replayed                    recorded.rs
//! real        a kernel of the archive, where the CPU executes guests  real.rs
//! alike       one test there and on the emulated machine              alike.rs
//! ```

mod alike;
mod real;
mod recorded;

use std::time::Instant;

use crate::machine::{KvmSelfTest, SelfTestOutcome, selftest_kvm};

/// What needs a workspace with tests, and what runs it there.
const ELSEWHERE: (&str, &str) = (
    "schedulers, on kvm and on qemu",
    "these are tests of ktstr's own workspace: `cargo test -p ktstr-tests --test kvm`",
);

/// What was seen, or what is wrong.
type Checked = Result<String, String>;

/// Run all of it on this host's KVM, and tell `each` of every row when it is done.
///
/// # Errors
/// In words, when there is no KVM that can be tried.
pub fn kvm(mut each: impl FnMut(&KvmSelfTest)) -> Result<Vec<KvmSelfTest>, String> {
    let mut rows = selftest_kvm(&mut each)?;
    let mut add = |name, run: &dyn Fn() -> (SelfTestOutcome, String)| {
        let begun = Instant::now();
        let (outcome, detail) = run();
        let row = KvmSelfTest { name, outcome, detail, took_ms: begun.elapsed().as_millis() as u64 };
        each(&row);
        rows.push(row);
    };
    add("a tiny guest, recorded and replayed", &|| outcome(recorded::tiny_guest()));
    let host = real::Host::find();
    for (name, run) in real::ROWS {
        add(name, &|| match &host {
            Ok(host) => outcome(run(host)),
            Err(why) => (SelfTestOutcome::NotRun, why.clone()),
        });
    }
    let emulator = host.as_ref().map_err(String::clone).and_then(real::Host::emulator);
    add(real::ON_BOTH, &|| match (&host, &emulator) {
        (Ok(host), Ok(emulator)) => outcome(real::on_both(host, emulator)),
        (Err(why), _) | (_, Err(why)) => (SelfTestOutcome::NotRun, why.clone()),
    });
    add(ELSEWHERE.0, &|| (SelfTestOutcome::NotRun, ELSEWHERE.1.to_owned()));
    Ok(rows)
}

fn outcome(found: Checked) -> (SelfTestOutcome, String) {
    match found {
        Ok(seen) => (SelfTestOutcome::Pass, seen),
        Err(wrong) => (SelfTestOutcome::Fail, wrong),
    }
}

/// An error with all of its causes.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::kvm;
    use crate::machine::SelfTestOutcome;

    #[test]
    fn everything_that_can_be_tried_here_passes() {
        let rows = match kvm(|row| eprintln!("{row:?}")) {
            Ok(rows) => rows,
            Err(why) => return eprintln!("not tested: {why}"),
        };
        let of =
            |wanted: SelfTestOutcome| rows.iter().filter(|row| row.outcome == wanted).collect::<Vec<_>>();
        assert!(of(SelfTestOutcome::Fail).is_empty(), "{:#?}", of(SelfTestOutcome::Fail));
        // All that is checked by tiny guests, wherever there is a KVM.
        assert!(of(SelfTestOutcome::Pass).len() >= 27, "{rows:#?}");
        assert!(of(SelfTestOutcome::NotRun).iter().all(|row| !row.detail.is_empty()));
    }
}
