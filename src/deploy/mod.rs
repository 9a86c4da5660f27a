//! The pipeline: alone sequences the workers.
