//! Prints receipts, until the paper jams.

use spark_channel::{SparkChannelError, module};

#[derive(Default)]
pub(crate) struct Printer {
    printed: u32,
}

#[module(pub(crate), error = SparkChannelError)]
impl Printer {
    #[command]
    async fn print(&mut self, _receipt: String) {
        if self.printed == PAGES_UNTIL_JAM {
            std::future::pending::<()>().await;
        }
        self.printed += 1;
    }
}

const PAGES_UNTIL_JAM: u32 = 2;
