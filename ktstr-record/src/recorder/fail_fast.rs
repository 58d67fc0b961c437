//! Looks at the claims while the run is on: where one is broken for good, what is still to come cannot mend it.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use ktstr_replay::judge::broken_for_good;
use ktstr_replay::run::Run;
use ktstr_replay::trace::Trace;

/// A thread that judges the trace after each capture that reached it.
pub(super) struct FailFast {
    broken: mpsc::Receiver<String>,
}

impl FailFast {
    /// Begin. Whoever holds the sender says when there is a new capture in the trace; one who speaks while the thread is at
    /// work need not wait. The thread ends with the sender.
    pub(super) fn start(trace: PathBuf) -> std::io::Result<(Self, Sender<()>)> {
        let (captured, captures) = crossbeam_channel::bounded(1);
        let (tell, broken) = mpsc::channel();
        thread::Builder::new()
            .name(String::from("ktstr-claims"))
            .spawn(move || judge(&trace, &captures, &tell))?;
        Ok((Self { broken }, captured))
    }

    /// A claim that is broken for good by what the trace had at a capture; told once for each capture.
    pub(super) fn broken(&self) -> Option<String> {
        self.broken.try_iter().last()
    }
}

fn judge(trace: &std::path::Path, captures: &Receiver<()>, tell: &mpsc::Sender<String>) {
    while captures.recv().is_ok() {
        // A trace that cannot be read is judged at the end of the run, where that is said.
        let Ok(trace) = Trace::open(trace) else { continue };
        // Nobody listens to a run that has ended meanwhile.
        if let Some(claim) = broken_for_good(&Run::load(&trace))
            && tell.send(claim.to_string()).is_err()
        {
            return;
        }
    }
}
