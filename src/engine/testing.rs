//! Real engine tests.
