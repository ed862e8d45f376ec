//! Records and verdicts rendered for people and machines.
