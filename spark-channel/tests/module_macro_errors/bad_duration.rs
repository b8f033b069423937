#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module]
impl Stock {
    #[request(timeout = "2 seconds")]
    async fn count(&self, item: String) -> u64 {
        0
    }

    #[request(timeout = "0s")]
    async fn sum(&self) -> u64 {
        0
    }

    #[request(timeout = 2)]
    async fn most(&self) -> u64 {
        0
    }
}

fn main() {}
