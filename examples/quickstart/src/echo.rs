//! Says back what it is told.

use spark_channel::NativeHandler;

pub(crate) struct Echo;

impl NativeHandler for Echo {
    type Message = String;
    type Response = String;
    type Error = spark_channel::SparkChannelError;

    async fn handle_request(&mut self, text: String) -> Result<String, Self::Error> {
        Ok(text)
    }

    async fn handle_command(&mut self, _: String) -> Result<(), Self::Error> {
        Ok(())
    }
}
