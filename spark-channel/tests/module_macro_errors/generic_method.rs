#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module]
impl Stock {
    #[request]
    async fn count<T>(&self, item: T) -> u64 {
        0
    }

    #[command]
    async fn restock(&mut self, item: impl Into<String>) {}
}

fn main() {}
