//! The kernel's profile: symbols and types, decoded beside the run.
//!
//! It takes a few hundred ms of a CPU, and nothing needs it before the first capture, which comes when the scheduler has
//! loaded. What it reads does not change while the kernel runs, so the guest need not stand still.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use ktstr_replay::kernel::{Caps, KernelError, KernelProfile, KernelView, SampleReader};

use crate::machine::GuestRam;

/// A profile that is being made, or was.
pub(super) enum Profile {
    /// On its thread.
    Making(JoinHandle<Result<KernelProfile, KernelError>>),
    /// There it is.
    Made(Arc<KernelProfile>),
    /// It could not be made; why.
    Failed(String),
}

impl Profile {
    /// Begin to make the profile of the kernel in `ram`.
    pub(super) fn start(ram: Arc<GuestRam>) -> io::Result<Self> {
        std::thread::Builder::new()
            .name(String::from("ktstr-profile"))
            .spawn(move || {
                let profile = KernelProfile::from_memory(&*ram)?;
                // The first sample resolves the layouts of all mirrors, which takes some ms. The guest runs now, so what
                // is read is of no use, but no stop has to pay for it.
                SampleReader::new(Caps::default()).read(&KernelView::new(&profile, &*ram));
                Ok(profile)
            })
            .map(Self::Making)
    }

    /// Whether asking for it would not wait.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Making(thread) => thread.is_finished(),
            Self::Made(_) | Self::Failed(_) => true,
        }
    }

    /// The profile, waiting for it if need be.
    ///
    /// # Errors
    /// Why it could not be made.
    pub(super) fn get(&mut self) -> Result<Arc<KernelProfile>, String> {
        if let Self::Making(_) = self {
            *self = match std::mem::replace(self, Self::Failed(String::new())) {
                Self::Making(thread) => match thread.join() {
                    Ok(Ok(profile)) => Self::Made(Arc::new(profile)),
                    Ok(Err(error)) => Self::Failed(error.to_string()),
                    Err(panic) => std::panic::resume_unwind(panic),
                },
                made => made,
            };
        }
        match self {
            Self::Made(profile) => Ok(Arc::clone(profile)),
            Self::Failed(why) => Err(why.clone()),
            Self::Making(_) => Err(String::from("still being made")),
        }
    }
}
