//! The oracle of the fuzz target over its seeds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[test]
fn postgres() {
    seeds::each("postgres", |data| access_postgres::oracle::check_in_every_way(data).unwrap());
}
