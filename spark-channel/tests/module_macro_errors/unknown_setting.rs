#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module]
impl Stock {
    #[request(tiemout = "2s")]
    async fn count(&self, item: String) -> u64 {
        0
    }

    #[command(timeout = "2s")]
    async fn restock(&mut self, item: String) {}
}

fn main() {}
