//! Whether a machine whose scheduler is enabled may be saved as a template.
//!
//! Every run that is restored from it has what was said before, out of the ring in its memory: so the ring must have all of
//! it. And a template must have nothing of a fault, which those runs would all share.

use guest_init::message::{GuestStage, ToHost};

use crate::job::PackedJob;
use crate::machine::{AttachedTemplate, kernel_fault};

/// What is done when the scheduler is enabled and init waits for the test.
pub(super) struct Attached<'c> {
    /// Where the machine is saved.
    pub template: AttachedTemplate,
    /// The job whose test is then sent.
    pub job: &'c PackedJob,
}

/// What was heard that speaks against saving the machine.
#[derive(Debug, Default)]
pub(super) struct Unfit(Option<&'static str>);

impl Unfit {
    /// Take note of what the guest says.
    pub(super) fn hear(&mut self, message: &ToHost) {
        if let ToHost::Stage { stage: GuestStage::SchedulerExited | GuestStage::Failed, .. } = message {
            self.0 = Some("the scheduler did not stay enabled");
        }
    }

    /// Something that the guest said was lost.
    pub(super) fn hear_loss(&mut self) {
        self.0 = Some("something that the guest said was lost");
    }

    /// The machine has mended a fault of its own.
    pub(super) fn hear_mended(&mut self) {
        self.0 = Some("the emulator had a fault, though it was mended");
    }

    /// Why the machine with this console must not be saved; `has_all`: the ring has all that its guest has said.
    pub(super) fn why(&self, console: &str, has_all: bool) -> Option<String> {
        if let Some(why) = self.0 {
            return Some(why.to_owned());
        }
        if let Some(line) = kernel_fault(console) {
            return Some(format!("the kernel stumbled: {line}"));
        }
        (!has_all)
            .then(|| "the guest said more than its ring holds, which no later run could hear".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_saved_only_if_all_is_well_and_all_is_heard() {
        let stage = |stage| ToHost::Stage { stage, detail: String::new() };
        let mut unfit = Unfit::default();
        unfit.hear(&stage(GuestStage::SchedulerStarted));
        unfit.hear(&stage(GuestStage::SchedulerEnabled));
        assert_eq!(unfit.why("quiet\n", true), None);
        assert!(unfit.why("quiet\n", false).is_some_and(|why| why.contains("more than its ring holds")));
        let oops = unfit.why("[    3.1] Oops: int3: 0000\r\n", true);
        assert!(oops.is_some_and(|why| why.ends_with("stumbled: [    3.1] Oops: int3: 0000")));
        for gone in [GuestStage::SchedulerExited, GuestStage::Failed] {
            let mut unfit = Unfit::default();
            unfit.hear(&stage(gone));
            assert!(unfit.why("", true).is_some_and(|why| why.contains("did not stay enabled")));
        }
        let (mut lossy, mut mended) = (Unfit::default(), Unfit::default());
        lossy.hear_loss();
        mended.hear_mended();
        assert!(lossy.why("", true).is_some() && mended.why("", true).is_some());
    }
}
