//! A module that says back what it is told.

use spark_channel::{NativeHandler, SparkChannelError};

pub(crate) struct Echo;

impl NativeHandler for Echo {
    type Message = String;
    type Response = String;
    type Error = SparkChannelError;

    async fn handle_request(&mut self, text: String) -> Result<String, SparkChannelError> {
        Ok(text)
    }

    async fn handle_command(&mut self, _: String) -> Result<(), SparkChannelError> {
        Ok(())
    }
}
