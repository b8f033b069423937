//! Reading what has no length.

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::wire::within;

/// Reads up to `end`, and not a byte beyond it; panics if the connection ends first.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let mut ahead = vec![0; 64 * 1024];
    while !read.ends_with(end.as_bytes()) {
        let length = within(stream.peek(&mut ahead)).await.unwrap_or(0);
        assert!(length > 0, "closed after {}", read.escape_ascii());
        let mut taken = 0;
        while taken < length && !read.ends_with(end.as_bytes()) {
            read.push(ahead[taken]);
            taken += 1;
        }
        within(stream.read_exact(&mut ahead[..taken]))
            .await
            .expect("there already");
    }
    String::from_utf8(read).expect("UTF-8")
}

/// Reads until the connection ends, however it does.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    // A reset is an end, too.
    let _ = within(stream.read_to_end(&mut read)).await;
    String::from_utf8(read).expect("UTF-8")
}
