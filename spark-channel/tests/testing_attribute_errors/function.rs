use spark_channel::testing::Audit;

#[spark_channel::testing::test]
fn blocking() {}

#[spark_channel::testing::test]
async fn generic<T>() {}

#[spark_channel::testing::test]
async fn two(_audit: Audit, _other: Audit) {}

#[spark_channel::testing::test]
#[test]
async fn twice() {}

#[spark_channel::testing::test]
struct Stock;

fn main() {}
