use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "demo", name = "demo", binary = "scx_demo" });

fn main() {}
