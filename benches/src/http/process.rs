//! A contender's process, from its start to its end.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use tokio::time::Instant;

use super::{contender::Contender, options::Options};

/// A server that runs. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    /// Who prints into a closed pipe panics.
    _output: BufReader<ChildStdout>,
}

// === impl Server ===

impl Server {
    /// Starts `contender`: this program once more, or that which serves with `manager_handlers`.
    ///
    /// # Errors
    ///
    /// If the program cannot be run, or does not say where it listens.
    pub fn start(contender: Contender, options: &Options) -> io::Result<Self> {
        let mut command = match (contender, &options.manager_handlers) {
            (Contender::ManagerHandlers, Some(program)) => {
                let mut command = Command::new(program);
                command.args(options.access_log.then_some("--access-log"));
                // It panics at every unknown name. All of that is written, but to nowhere.
                command.env("RUST_BACKTRACE", "0").stderr(Stdio::null());
                command
            }
            (Contender::ManagerHandlers, None) => {
                return Err(io::Error::other("--manager-handlers names no program"));
            }
            (own, _) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["--serve", own.name()]);
                command
            }
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut output = BufReader::new(output);
        let Some(address) = announced(&mut output) else {
            let _ = child.kill();
            let _ = child.wait();
            let problem = format!("{contender} does not say where it listens");
            return Err(io::Error::other(problem));
        };
        let mut server = Self {
            child,
            address,
            _output: output,
        };
        server.wait_until_it_accepts()?;
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its memory that is not shared with others, and resident, in bytes.
    ///
    /// # Errors
    ///
    /// If the system does not tell, as only Linux does.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let rollup = fs::read_to_string(path)?;
        let kibibytes = |line: &str| -> Option<u64> {
            let (name, value) = line.split_once(':')?;
            let counts = matches!(name, "Private_Clean" | "Private_Dirty");
            counts.then(|| value.trim().trim_end_matches(" kB").parse().ok())?
        };
        Ok(rollup.lines().filter_map(kibibytes).sum::<u64>() * 1024)
    }

    /// A server that listens some time after it said so is given a few seconds.
    fn wait_until_it_accepts(&mut self) -> io::Result<()> {
        let start = Instant::now();
        loop {
            match std::net::TcpStream::connect(self.address) {
                Ok(_) => break,
                Err(error) if start.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        // A port may be another program's.
        match self.child.try_wait()? {
            Some(status) => Err(io::Error::other(format!("server ended: {status}"))),
            None => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads up to the line that says where a server listens.
fn announced(output: impl BufRead) -> Option<SocketAddr> {
    let mut lines = output.lines().map_while(Result::ok);
    lines.find_map(|line| line.strip_prefix("listening on ")?.parse().ok())
}

const PATIENCE: Duration = Duration::from_secs(10);
