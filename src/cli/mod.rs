//! The terminal: flags, and output to a screen.
