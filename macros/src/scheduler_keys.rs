//! The keys of `declare_scheduler!`.

use crate::args::{Key, Shape};

/// Every key, in the order in which errors list them.
pub const KEYS: &[Key] = &[
    Key { name: "name", shape: Shape::Text },
    Key { name: "binary", shape: Shape::Text },
    Key { name: "binary_path", shape: Shape::Text },
    Key { name: "source", shape: Shape::Text },
    Key { name: "sched_args", shape: Shape::Texts },
    Key { name: "topology", shape: Shape::Four },
    Key { name: "kargs", shape: Shape::Texts },
];
