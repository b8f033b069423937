//! Replacing a file in one step.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    hash::{BuildHasher as _, RandomState},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Removed unless it has taken its name.
struct Temporary {
    path: PathBuf,
    renamed: bool,
}

/// Writes `bytes` to a file that then takes the name `path`.
///
/// The order is what makes it last: the contents are on the disk before the name is, and the name
/// before this returns.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a link points to is replaced, not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut temporary = Temporary::beside(path)?;
    let mut file = temporary.create()?;
    if let Ok(former) = fs::metadata(path) {
        file.set_permissions(former.permissions())?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary.path, path)?;
    temporary.renamed = true;
    sync_directory(path)
}

// === impl Temporary ===

impl Temporary {
    /// In the same directory, because a file is renamed in one step only within a file system.
    fn beside(path: &Path) -> io::Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(io::Error::from(io::ErrorKind::InvalidFilename));
        };
        // The number of a process would not do: two containers may share the directory.
        let random = RandomState::new().hash_one(name);
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{random:016x}.tmp"));
        Ok(Self {
            path: path.with_file_name(hidden),
            renamed: false,
        })
    }

    fn create(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&self.path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // The error that brought us here says more.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Elsewhere a directory cannot be opened, and renaming is on the disk when it returns.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
