#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module]
impl Stock {
    #[command]
    async fn restock(&mut self, item: String) -> u64 {
        0
    }

    #[request]
    async fn items(&self) -> impl Iterator<Item = String> {
        std::iter::empty()
    }

    #[request]
    async fn copy(&self) -> Self {
        Self
    }

    #[request]
    async fn dispatcher(&self) -> u64 {
        0
    }
}

fn main() {}
