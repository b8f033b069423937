#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module]
impl Stock {
    #[request]
    async fn count(item: String) -> u64 {
        0
    }

    #[command]
    async fn close(self) {}
}

fn main() {}
