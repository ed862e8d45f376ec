//! What Sentinel deployments and clusters share: the RESP vocabulary ([`message`]), the key space ([`store`]) and
//! asynchronous replication ([`replication`]), after the behaviour of Redis 7.0 and Valkey 8.1 to 9.1.
//!
//! Our words are primary, replica and epoch; `master`, `slave` and `config epoch` appear only as words of the wire.

pub mod admin;
pub mod data;
pub mod info;
pub mod instances;
pub mod message;
pub mod values;
pub mod words;
