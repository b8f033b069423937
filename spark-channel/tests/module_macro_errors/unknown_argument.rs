#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module]
impl Stock {
    async fn count(&self) -> u64 {
        0
    }
}

struct Shelf;

#[module(mokc)]
impl Shelf {
    #[request]
    async fn count(&self) -> u64 {
        0
    }
}

struct Drawer;

#[module(client = A, client = B)]
impl Drawer {
    #[request]
    async fn count(&self) -> u64 {
        0
    }
}

fn main() {}
