#![allow(unused)]

use spark_channel::module;

struct Pebble;

struct Stock;

#[module(mock)]
impl Stock {
    #[request]
    async fn weigh(&self, item: Pebble) -> u64 {
        0
    }
}

struct Refusal;

struct Shelf;

#[module(error = eyre::Report)]
impl Shelf {
    #[request]
    async fn put(&mut self) -> Result<u64, Refusal> {
        Ok(0)
    }
}

fn main() {}
