//! The kernel's profile: symbols and types, decoded beside the run.
//!
//! It takes a few hundred ms of a CPU, and nothing needs it before the first capture, which comes when the scheduler has
//! loaded. What it reads does not change while the kernel runs, so the guest need not stand still.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use ktstr_replay::kernel::{Caps, KernelError, KernelProfile, KernelView, PageClassifier, SampleReader};

use crate::machine::GuestRam;

/// A profile that is being made, or was.
pub(super) enum Profile {
    /// On its thread.
    Making(JoinHandle<Result<Made, KernelError>>),
    /// There it is.
    Made(Made),
    /// It could not be made; why.
    Failed(String),
}

/// A kernel's profile, and what was made of it beforehand.
pub(super) struct Made {
    kernel: Arc<KernelProfile>,
    pages: Result<Arc<PageClassifier>, KernelError>,
}

impl Profile {
    /// Begin to make the profile of the kernel in `ram`.
    pub(super) fn start(ram: Arc<GuestRam>) -> io::Result<Self> {
        std::thread::Builder::new()
            .name(String::from("ktstr-profile"))
            .spawn(move || {
                let kernel = Arc::new(KernelProfile::from_memory(&*ram)?);
                // The first sample resolves the layouts of all mirrors, which takes some ms. The guest runs now, so what
                // is read is of no use, but no stop has to pay for it.
                SampleReader::new(Caps::default()).read(&KernelView::new(&kernel, &*ram));
                let pages = PageClassifier::new(Arc::clone(&kernel)).map(Arc::new);
                if let Ok(pages) = &pages {
                    // As above: the layouts of what it looks at, and the pages of the structs themselves.
                    let _ = pages.classify(&*ram, &ram.ranges());
                }
                Ok(Made { kernel, pages })
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
        self.made().map(|made| Arc::clone(&made.kernel))
    }

    /// What tells the kernel's pages apart, waiting for it if need be.
    ///
    /// # Errors
    /// Why it could not be made.
    pub(super) fn pages(&mut self) -> Result<Arc<PageClassifier>, String> {
        self.made()?.pages.clone().map_err(|error| error.to_string())
    }

    fn made(&mut self) -> Result<&Made, String> {
        if let Self::Making(_) = self {
            *self = match std::mem::replace(self, Self::Failed(String::new())) {
                Self::Making(thread) => match thread.join() {
                    Ok(Ok(made)) => Self::Made(made),
                    Ok(Err(error)) => Self::Failed(error.to_string()),
                    Err(panic) => std::panic::resume_unwind(panic),
                },
                made => made,
            };
        }
        match self {
            Self::Made(made) => Ok(made),
            Self::Failed(why) => Err(why.clone()),
            Self::Making(_) => Err(String::from("still being made")),
        }
    }
}
