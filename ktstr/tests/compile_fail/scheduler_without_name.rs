use ktstr::prelude::*;

declare_scheduler!(DEMO, { binary = "scx_demo" });

fn main() {}
