//! Serves `POST /echo` with `manager_handlers` on the port it insists on.

use std::{error::Error, sync::Arc};

use async_trait::async_trait;
use manager_handlers::{
    core::{
        communication::multibus::MultiBus,
        states::SharedState,
        traits::Base,
    },
    handler,
    manager::Manager,
};

handler!(Echo, echo;
    async fn run(&self, _: String, data: String) -> Result<String, Box<dyn Error + Send + Sync>> {
        Ok(data)
    }
);

#[tokio::main]
async fn main() {
    let mut manager = Manager::new_default();
    // As many as connections under load; the default is one request at a time.
    manager.with_max_requests(64);
    manager.with_keep_alive(Some(60));
    manager.add_handler::<Echo>("echo", 4);
    println!("listening on 127.0.0.1:8080");
    manager.start().await;
}
