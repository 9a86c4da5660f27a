//! The SSH entrance: sessions and keys. Never builds.
