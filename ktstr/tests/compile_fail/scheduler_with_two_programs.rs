use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", source = "scx_demo" });

fn main() {}
