//! Drives headless Chromium over its debugging protocol: JSON messages through a pipe, each
//! ended by a zero byte.

use std::{
    path::PathBuf,
    process::{self, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// One browser with one page. Ends with it.
pub(crate) struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    profile: PathBuf,
    session: Option<String>,
    next_id: u64,
    /// What the page complained about.
    complaints: Vec<String>,
    /// Every address that the page asked for.
    requested: Vec<String>,
}

static PROFILES: AtomicU32 = AtomicU32::new(0);

impl Browser {
    /// Starts Chromium, or fails the test and says what is missing.
    pub(crate) async fn start() -> Self {
        let number = PROFILES.fetch_add(1, Ordering::Relaxed);
        let profile = format!("browser-{}-{number}", process::id());
        let profile = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(profile);
        let found = Command::new("sh")
            .args(["-c", "command -v chromium"])
            .output();
        assert!(
            found.await.expect("a shell").status.success(),
            "chromium is missing; scripts/test installs it: apt-get install chromium"
        );
        // The protocol's pipe has the numbers 3 (in) and 4 (out).
        let script = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let mut browser = Self {
            input: child.stdin.take().expect("piped"),
            output: BufReader::new(child.stdout.take().expect("piped")),
            child,
            profile,
            session: None,
            next_id: 0,
            complaints: Vec::new(),
            requested: Vec::new(),
        };
        let target = browser
            .call("Target.createTarget", json!({ "url": "about:blank" }))
            .await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    pub(crate) async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        self.until("document.readyState === 'complete'").await;
    }

    /// A window of this size, in the colours that the user prefers.
    pub(crate) async fn look(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        let features = json!({ "features": [feature] });
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// The value of an expression, of a promise once it is fulfilled.
    pub(crate) async fn eval(&mut self, expression: &str) -> Value {
        let evaluate = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true,
        });
        let answer = self.call("Runtime.evaluate", evaluate).await;
        let failed = &answer["exceptionDetails"];
        assert!(failed.is_null(), "{expression}: {failed}");
        answer["result"]["value"].clone()
    }

    pub(crate) async fn text(&mut self, expression: &str) -> String {
        let value = self.eval(expression).await;
        let text = value
            .as_str()
            .unwrap_or_else(|| panic!("{expression}: {value}"));
        text.to_owned()
    }

    /// Waits until a condition holds.
    pub(crate) async fn until(&mut self, condition: &str) {
        let waiting = format!(
            "new Promise((holds) => {{
                const look = () => ({condition}) ? holds(true) : setTimeout(look, 20);
                look();
            }})"
        );
        self.eval(&waiting).await;
    }

    /// Presses and releases a key, such as `a`, `Tab` or `ArrowDown`.
    pub(crate) async fn press(&mut self, key: &str) {
        let (text, code) = match key {
            "Enter" => ("\r", 13),
            "Tab" => ("", 9),
            "Escape" => ("", 27),
            "ArrowUp" => ("", 38),
            "ArrowDown" => ("", 40),
            "Home" => ("", 36),
            "End" => ("", 35),
            text => (text, 0),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code,
            });
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    pub(crate) async fn write(&mut self, text: &str) {
        for char in text.chars() {
            self.press(&char.to_string()).await;
        }
    }

    /// Puts a picture of the whole page into the folder that `SPARK_HTTP_SHOTS` names, if it does.
    pub(crate) async fn shoot(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("SPARK_HTTP_SHOTS") else {
            return;
        };
        let shoot = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", shoot).await;
        let png = from_base64(shot["data"].as_str().expect("a picture"));
        let file = PathBuf::from(folder).join(format!("{name}.png"));
        std::fs::write(file, png).expect("a folder");
    }

    /// Fails if the page logged an error, or asked for anything that is not below `origin`. Then
    /// ends the browser.
    pub(crate) async fn close(mut self, origin: &str) {
        self.eval("1").await;
        assert!(self.complaints.is_empty(), "{:#?}", self.complaints);
        for url in &self.requested {
            assert!(url.starts_with(origin) || url.starts_with("data:"), "{url}");
        }
        self.session = None;
        self.call("Browser.close", json!({})).await;
        let _ = within(self.child.wait()).await;
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let message = format!("{message}\0");
        within(async {
            let sent = self.input.write_all(message.as_bytes()).await;
            sent.expect("chromium runs");
            loop {
                let mut bytes = Vec::new();
                let read = self.output.read_until(0, &mut bytes).await;
                assert!(read.expect("chromium runs") > 0, "chromium ended");
                bytes.pop();
                let answer: Value = serde_json::from_slice(&bytes).expect("JSON");
                if answer["id"] == id {
                    assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                    return answer["result"].clone();
                }
                self.note(&answer);
            }
        })
        .await
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" => {
                self.complaints.push(params.to_string());
            }
            "Log.entryAdded" if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                if url != "about:blank" {
                    self.requested.push(url.to_owned());
                }
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

/// Fails the test rather than let it hang. A browser on a busy machine takes its time.
async fn within<F: Future>(future: F) -> F::Output {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, future).await.expect("in time")
}

fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = |byte: &u8| DIGITS.iter().position(|digit| digit == byte);
    let sixes: Vec<usize> = text.as_bytes().iter().filter_map(value).collect();
    let mut bytes = Vec::with_capacity(sixes.len() * 3 / 4);
    for group in sixes.chunks(4) {
        let bits = group.iter().fold(0, |bits, six| bits << 6 | six) << (6 * (4 - group.len()));
        let three = u32::try_from(bits).expect("24 bits").to_be_bytes();
        bytes.extend_from_slice(&three[1..group.len()]);
    }
    bytes
}

/// Without a sandbox, since tests may run as root, and with nothing to reach but this machine.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
];
