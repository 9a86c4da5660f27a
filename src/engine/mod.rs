//! The container engine; the sole importer of bollard.
