#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module]
impl Stock {
    #[request]
    async fn count(&self) -> u64 {
        0
    }

    #[started]
    async fn open(&mut self) -> u64 {
        0
    }

    #[undelivered]
    async fn give_back(&mut self) {}

    #[command_failed]
    async fn note(&mut self, error: eyre::Report) {}

    #[stopped]
    async fn close(&mut self) {}

    #[stopped]
    async fn close_again(&mut self) {}
}

fn main() {}
