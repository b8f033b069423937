#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module]
impl Stock {
    #[request]
    fn count(&self, item: String) -> u64 {
        0
    }
}

fn main() {}
