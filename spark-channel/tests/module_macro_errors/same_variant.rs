#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module]
impl Stock {
    #[request]
    async fn get_count(&self) -> u64 {
        0
    }

    #[request]
    async fn get__count(&self) -> u64 {
        0
    }

    #[request]
    #[command]
    async fn both(&mut self) {}
}

fn main() {}
