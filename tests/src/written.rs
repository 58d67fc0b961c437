//! What a test's process wrote.

use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::{EventBody, OutputSource};

/// What the process of the body wrote to its standard output and standard error, as it came.
pub fn written(trace: &Trace) -> String {
    let pieces = trace.events().into_iter().filter_map(|event| match event.body {
        EventBody::Output { source: OutputSource::Test, bytes, .. } => Some(bytes),
        _ => None,
    });
    String::from_utf8_lossy(&pieces.collect::<Vec<_>>().concat()).into_owned()
}
