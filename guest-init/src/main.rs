//! PID 1 of a ktstr guest.

fn main() {}
