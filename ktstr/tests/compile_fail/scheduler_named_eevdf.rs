use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "eevdf", binary = "scx_demo" });

fn main() {}
