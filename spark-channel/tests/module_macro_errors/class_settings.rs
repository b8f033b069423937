#![allow(unused)]

use spark_channel::{Class, module};

const BULK: Class = Class::new("bulk");

struct Exchange;

#[module]
impl Exchange {
    #[command(priority = "urgent")]
    async fn halt(&mut self) {}

    #[command(overflow = "drop")]
    async fn quote(&mut self, symbol: String) {}

    #[request(capacity = 0)]
    async fn price(&self, symbol: String) -> u64 {
        0
    }

    #[request(conflate = symbol)]
    async fn depth(&self, symbol: String) -> u64 {
        0
    }

    #[command(conflate = symbol)]
    async fn tick(&mut self, name: String) {}

    #[command(class = BULK, priority = "low")]
    async fn settle(&mut self) {}

    #[command(priority = "low")]
    async fn default(&mut self) {}
}

fn main() {}
