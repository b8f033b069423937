#![allow(unused)]

use spark_channel::{Tick, module};

struct Stock;

#[module]
impl Stock {
    #[every]
    async fn often(&mut self) {}

    #[every(30)]
    async fn number(&mut self) {}

    #[every("0s")]
    async fn never(&mut self) {}

    #[every("30s", 7)]
    async fn twice(&mut self) {}

    #[every("30s", timeout = "1s")]
    async fn limited(&mut self) {}

    #[every("30s")]
    async fn told(&mut self, item: String) {}

    #[every("30s")]
    async fn asked(&mut self, tick: Tick) -> u64 {
        0
    }

    #[every("30s")]
    fn blocking(&mut self) {}

    #[every("30s")]
    #[command]
    async fn both(&mut self) {}
}

fn main() {}
