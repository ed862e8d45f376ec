//! Runs a failover protocol as a real process.
