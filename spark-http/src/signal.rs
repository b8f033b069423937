//! The signals that ask a process to end.

use std::{fmt, io};

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and ctrl-c, as something to wait for.
///
/// From the moment it exists these signals no longer end the process by themselves, and
/// this stays so when it is dropped (tokio never puts a signal's default back). So whoever
/// makes one keeps listening until the end. Elsewhere than on Unix it is ctrl-c alone.
///
/// # Examples
///
/// ```no_run
/// use spark_http::{HttpServer, Ingress, ShutdownSignals};
///
/// # async fn run(ingress: Ingress) -> Result<(), Box<dyn std::error::Error>> {
/// let mut signals = ShutdownSignals::listen()?;
/// let server = HttpServer::bind("127.0.0.1:8080").await?;
/// let report = server.serve_until(ingress, &mut signals).await;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
pub struct ShutdownSignals {
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    interrupt: Signal,
}

// === impl ShutdownSignals ===

impl ShutdownSignals {
    /// Starts to listen.
    ///
    /// # Errors
    ///
    /// If the operating system refuses the handlers.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime with its I/O driver on.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: signal(SignalKind::terminate())?,
            #[cfg(unix)]
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Completes at the next signal. Signals of one kind that come while nobody waits
    /// count as one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that came meanwhile completes the next call.
    pub async fn recv(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            // Nothing can be listened to, so nothing ever comes.
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for ShutdownSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownSignals").finish_non_exhaustive()
    }
}
