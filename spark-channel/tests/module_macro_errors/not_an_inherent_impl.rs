#![allow(unused)]

use spark_channel::module;

struct Stock;

trait Counts {
    async fn count(&self) -> u64;
}

#[module]
impl Counts for Stock {
    async fn count(&self) -> u64 {
        0
    }
}

#[module]
struct Shelf;

fn main() {}
