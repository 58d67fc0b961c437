use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "my demo", binary = "scx_demo" });

fn main() {}
