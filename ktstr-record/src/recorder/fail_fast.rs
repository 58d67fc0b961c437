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
    broken: mpsc::Receiver<Broken>,
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

    /// A claim that is broken for good by what the trace had at a capture, told once for each capture; of `gaps` in which the host did not run
    /// the machine that were told so far. What was judged without one of them is judged again with the next capture.
    pub(super) fn broken(&self, gaps: usize) -> Option<String> {
        self.broken.try_iter().filter(|broken| broken.gaps >= gaps).last().map(|broken| broken.claim)
    }
}

/// A claim that is broken for good.
#[derive(Debug)]
struct Broken {
    claim: String,
    /// How many gaps of the host the trace told of when it was judged.
    gaps: usize,
}

fn judge(trace: &std::path::Path, captures: &Receiver<()>, tell: &mpsc::Sender<Broken>) {
    while captures.recv().is_ok() {
        // A trace that cannot be read is judged at the end of the run, where that is said.
        let Ok(trace) = Trace::open(trace) else { continue };
        let gaps = trace.host_gaps().len();
        // Nobody listens to a run that has ended meanwhile.
        if let Some(claim) = broken_for_good(&Run::load(&trace))
            && tell.send(Broken { claim: claim.to_string(), gaps }).is_err()
        {
            return;
        }
    }
}
