#![allow(unused)]

use spark_channel::{ReplyStreamSender, module};

struct Stock;

#[module]
impl Stock {
    #[request(stream)]
    async fn none(&self, prefix: String) {}

    #[request(stream)]
    async fn twice(&self, items: &ReplyStreamSender<String>) -> u64 {
        0
    }

    #[request]
    async fn forgotten(&self, items: ReplyStreamSender<String>) {}

    #[request(buffer = 4)]
    async fn alone(&self) {}

    #[request(stream, buffer = 0)]
    async fn empty(&self, items: &ReplyStreamSender<String>) {}
}

fn main() {}
