#![allow(unused)]

use spark_channel::module;

struct Stock;

#[module]
impl Stock {
    #[request]
    async unsafe fn trust(&self) -> u64 {
        0
    }

    #[request]
    async fn some(&self, #[cfg(unix)] item: String) -> u64 {
        0
    }

    #[request]
    async fn each(&self, items: impl Iterator<Item = String>) -> Option<impl Fn()> {
        Some(|| ())
    }

    #[request]
    async fn bound(&self) -> u64
    where
        Self: Sized,
    {
        0
    }
}

fn main() {}
