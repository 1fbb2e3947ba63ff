//! Real engines, real registries, and the few servers of our own that the tests run against.
