//! App logs, kept on disk. Never Docker.
