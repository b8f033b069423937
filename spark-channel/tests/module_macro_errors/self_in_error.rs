#![allow(unused)]

use spark_channel::module;

trait Fallible {
    type Failure;
}

struct Stock;

impl Fallible for Stock {
    type Failure = spark_channel::SparkChannelError;
}

#[module]
impl Stock {
    #[request]
    async fn count(&self) -> Result<u64, <Self as Fallible>::Failure> {
        Ok(0)
    }
}

fn main() {}
