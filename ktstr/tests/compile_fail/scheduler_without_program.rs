use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "demo" });

fn main() {}
