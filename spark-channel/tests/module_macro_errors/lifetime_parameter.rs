#![allow(unused)]

use spark_channel::module;

struct Stock<'a>(&'a str);

#[module]
impl<'a> Stock<'a> {
    #[request]
    async fn count(&self) -> u64 {
        0
    }
}

fn main() {}
