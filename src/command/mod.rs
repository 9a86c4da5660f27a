//! One file per command group; reached from the terminal and over SSH alike.
