#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module(mock, reader_writer)]
impl Stock {
    #[request]
    async fn count(&mut self) -> u64 {
        0
    }

    #[command]
    async fn note(&self) {}
}

fn main() {}
