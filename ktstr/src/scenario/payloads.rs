//! Payloads of a scenario: started by a step, ended with it at the latest.

use super::engine::Engine;
use super::error::Fault;
use crate::payload::{PayloadSpec, Running};
use crate::payload_call;

impl Engine<'_> {
    /// Start payloads; they are the frame's from now on.
    pub(super) fn run_payloads(&mut self, payloads: &[PayloadSpec]) -> Result<(), Fault> {
        for spec in payloads {
            let running = payload_call::begin(self.ctx, spec)?;
            self.keep_payload(running);
        }
        Ok(())
    }

    /// Wait for all runs of a payload, whichever step started them.
    pub(super) fn wait_payload(&mut self, name: &str) -> Result<(), Fault> {
        for running in self.take_payloads(|running| running.name == name) {
            payload_call::end(self.ctx, running)?;
        }
        Ok(self.ctx.op("wait_payload", name)?)
    }

    /// End payloads, whichever step started them.
    pub(super) fn kill_payloads(&mut self, which: impl Fn(&Running) -> bool) -> Result<(), Fault> {
        let taken = self.take_payloads(which);
        self.end_payloads(taken)
    }

    /// End these payloads, all at once; what they came to goes into the trace, of each of them.
    pub(super) fn end_payloads(&mut self, payloads: Vec<Running>) -> Result<(), Fault> {
        let mut first = Ok(());
        for running in payloads.iter().filter(|running| !running.has_ended()) {
            running.end();
            first = first.and(self.ctx.op("kill_payload", running.name).map_err(Fault::from));
        }
        for running in payloads {
            first = first.and(payload_call::end(self.ctx, running).map(drop).map_err(Fault::from));
        }
        first
    }
}
