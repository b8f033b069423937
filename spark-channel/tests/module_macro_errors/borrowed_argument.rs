#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module]
impl Stock {
    #[request]
    async fn count(&self, item: &str) -> u64 {
        0
    }

    #[command]
    async fn restock(&mut self, items: Vec<&[u8]>, note: &'static str) {}

    #[command]
    async fn note(&mut self, (item, text): (String, String)) {}
}

fn main() {}
