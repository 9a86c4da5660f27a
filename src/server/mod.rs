//! Wires everything, starts and stops it. No logic.
