#[spark_channel::testing::test(panic = 1)]
async fn unknown() {}

#[spark_channel::testing::test(panics = 1, panics = 2)]
async fn twice() {}

#[spark_channel::testing::test(panics = "one")]
async fn no_number() {}

#[spark_channel::testing::test(timeout = 5)]
async fn no_duration() {}

#[spark_channel::testing::test(flavor = "local")]
async fn no_flavor() {}

#[spark_channel::testing::test(worker_threads = 2)]
async fn one_thread() {}

#[spark_channel::testing::test(flavor = "multi_thread", worker_threads = 0)]
async fn no_thread() {}

#[spark_channel::testing::test(flavor = "multi_thread", start_paused = true)]
async fn paused() {}

fn main() {}
