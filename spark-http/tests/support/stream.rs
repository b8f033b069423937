//! Reading what has no length.

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::wire::within;

/// Reads up to `end`, and not a byte beyond it; panics if the connection ends first.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = within(stream.read_u8()).await;
        read.push(byte.unwrap_or_else(|error| panic!("{error} after {}", read.escape_ascii())));
    }
    String::from_utf8(read).expect("UTF-8")
}

/// Reads until the connection ends, however it does.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while let Ok(byte) = within(stream.read_u8()).await {
        read.push(byte);
    }
    String::from_utf8(read).expect("UTF-8")
}
