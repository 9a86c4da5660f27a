//! Repositories: reading trees, bridging receive-pack. Never Docker.
