//! The thread of a vCPU: it runs the vCPU, or does something with it, as it is told.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use ktstr_replay::units::Cpu;
use kvm_ioctls::VcpuFd;
use seccompiler::BpfProgram;

use super::confine;
use super::kick::Thread;
use super::vcpu::{Shared, Vcpu, Why, lock};
use crate::machine::error::MachineError;

/// A vCPU that came back.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) cpu: Cpu,
    pub(super) why: Why,
    /// Where it stands, when a watch fired.
    pub(super) rip: Option<u64>,
}

enum Command {
    Run,
    Do(Box<dyn FnOnce(&mut Vcpu) + Send>),
}

/// The thread of a vCPU. Dropping it ends the thread and waits for that; the vCPU must not run then.
pub(super) struct VcpuThread {
    cpu: Cpu,
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// An answer that is awaited.
pub(super) struct Answer<R> {
    cpu: Cpu,
    hear: Receiver<Result<R, MachineError>>,
}

impl<R> Answer<R> {
    /// Wait for it.
    pub(super) fn wait(self) -> Result<R, MachineError> {
        self.hear.recv().unwrap_or_else(|_| Err(ended(self.cpu)))
    }
}

impl VcpuThread {
    /// A thread for the vCPU `fd`, which says to `reports` when and why it came back.
    pub(super) fn spawn(
        fd: VcpuFd,
        cpu: Cpu,
        shared: Arc<Shared>,
        reports: Sender<Report>,
        filter: Arc<BpfProgram>,
    ) -> io::Result<Self> {
        let (say, hear) = mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("ktstr-vcpu{}", cpu.0)).spawn(move || {
            // Without its signal handler it cannot be stopped, so it ends, and whoever asks it something is told so. One that is not
            // confined executes no guest either.
            let Ok(mut vcpu) = Vcpu::new(fd, cpu, Arc::clone(&shared)) else { return };
            if confine::this_thread(&filter).is_err() {
                return;
            }
            lock(&shared.threads).push(Thread::current());
            for command in hear {
                match command {
                    Command::Do(what) => what(&mut vcpu),
                    Command::Run => {
                        let why = vcpu.run();
                        let fired = matches!(why, Why::Fired(_));
                        let rip = if fired { vcpu.fd().get_regs().ok().map(|regs| regs.rip) } else { None };
                        if reports.send(Report { cpu, why, rip }).is_err() {
                            return;
                        }
                    }
                }
            }
        })?;
        Ok(Self { cpu, commands: Some(say), thread: Some(thread) })
    }

    fn send(&self, command: Command) -> Result<(), MachineError> {
        let commands = self.commands.as_ref().ok_or_else(|| ended(self.cpu))?;
        commands.send(command).map_err(|_| ended(self.cpu))
    }

    /// Let the vCPU run.
    pub(super) fn run(&self) -> Result<(), MachineError> {
        self.send(Command::Run)
    }

    /// Have `what` done with the vCPU.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Vcpu) -> Result<R, MachineError> + Send + 'static,
    ) -> Answer<R> {
        let (say, hear) = mpsc::sync_channel(1);
        // When it cannot be sent, the answer's other end is gone, which is what the waiter finds.
        let _ = self.send(Command::Do(Box::new(move |vcpu| {
            let _ = say.send(what(vcpu));
        })));
        Answer { cpu: self.cpu, hear }
    }

    /// Do not wait for its end, as it does not come back out of the guest. It ends when it does.
    pub(super) fn abandon(mut self) {
        self.commands = None;
        self.thread = None;
    }
}

impl Drop for VcpuThread {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ended(cpu: Cpu) -> MachineError {
    let source = io::Error::other(
        "its thread has ended (at its start: the host refuses the signal or the seccomp filter)",
    );
    MachineError::Io { what: format!("ask vCPU {}", cpu.0), source }
}
