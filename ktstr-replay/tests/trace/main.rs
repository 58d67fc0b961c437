//! The trace file, from outside: what other crates can see of it.

mod damage;
mod file;
mod input;
mod layout;
mod limits;
mod repair;
mod segments;
mod slim;
mod versions;

use ktstr_replay::testing::small;
