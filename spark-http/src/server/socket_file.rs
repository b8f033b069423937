//! The file of a Unix socket: made without harm to what is there, removed if it is still ours.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::listener::BACKLOG;

/// Removes the socket's file when dropped, unless it is another one by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device and inode: which file it is, whatever its name.
type Identity = (u64, u64);

/// Listens on a socket at `path`, in the place of one that nobody listens on any more.
///
/// # Cancel safety
///
/// Cancel safe: a stale file may be gone, and nothing listens.
pub(super) async fn bind(path: &Path, mode: Option<u32>) -> io::Result<(UnixListener, SocketFile)> {
    if let Some(stale) = stale(path).await? {
        // Again, and right before: another server may have replaced it meanwhile.
        if identity(path).is_ok_and(|found| found == stale) {
            fs::remove_file(path)?;
        }
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path)?,
    };
    // Nobody can connect before `listen`, so nobody can with the permissions of the umask.
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok((socket.listen(BACKLOG)?, file))
}

/// The identity of a socket at `path` on which nobody listens.
async fn stale(path: &Path) -> io::Result<Option<Identity>> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Ok(Some((found.dev(), found.ino())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Somebody answers, or is too busy to, or we may not ask.
        Ok(_) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}
