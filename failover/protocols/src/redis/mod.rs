//! What Sentinel deployments and clusters share: the RESP vocabulary ([`message`]), the key space ([`store`]),
//! asynchronous replication ([`replication`]) and the data node made of them ([`server`]), after the behaviour of
//! Redis 7.0 and Valkey 8.1 to 9.1.
//!
//! Our words are primary, replica and epoch; `master`, `slave` and `config epoch` appear only as words of the wire.

pub mod admin;
pub mod connection;
pub mod data;
pub mod disk;
pub mod elements;
mod feeding;
mod hand_over;
pub mod info;
pub mod instances;
pub mod message;
mod pika;
pub mod replication;
pub mod server;
pub mod settings;
pub mod store;
mod upstream;
pub mod values;
pub mod words;

#[cfg(test)]
mod tests;
