//! The store on a real disk: what it keeps, what it gives back, and what it finds damaged.

mod backup_store;
mod bitflips;
mod store;
mod store_model;
mod store_reads;
mod stored;
mod trim;
