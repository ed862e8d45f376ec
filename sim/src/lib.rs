//! The simulated worlds, and everything that fills them.
