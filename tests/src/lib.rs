//! End-to-end tests of ktstr live in `tests/tests/`; this library is empty.
