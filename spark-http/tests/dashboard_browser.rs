//! The live page in headless Chromium. `SPARK_HTTP_SHOTS=<folder>` keeps pictures of it.

use std::{future::Future, time::Duration};

use http::Request;
use serde_json::Value;
use spark_channel::{
    Backoff, Child, NativeHandler, SparkGenericModuleDispatcher, Strategy, Supervisor, System,
    module, pool,
};
use spark_http::{ApiKeys, Body, HttpServer, Ingress, Seeing, TextCodec};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::support::{
    browser::Browser,
    modules::Broken,
    wire::{Serving, serve, within},
};

mod support {
    pub(crate) mod browser;
    pub(crate) mod modules;
    pub(crate) mod wire;
}

/// Takes as long as its message says, in milliseconds.
#[derive(Clone)]
struct Shop;

impl NativeHandler for Shop {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn started(&mut self) -> eyre::Result<()> {
        Ok(())
    }

    async fn handle_request(&mut self, message: String) -> eyre::Result<String> {
        let (name, millis) = message.split_once(' ').unwrap_or((&message, "0"));
        tokio::time::sleep(Duration::from_millis(millis.parse()?)).await;
        assert!(name != "panic", "told to panic");
        eyre::ensure!(name != "fail", "told to fail");
        Ok(message)
    }

    async fn handle_command(&mut self, message: String) -> eyre::Result<()> {
        self.handle_request(message).await.map(drop)
    }
}

/// A service with work to do, and a browser that looks at it.
struct Scene {
    serving: Serving,
    seeing: Seeing,
    _system: System,
    load: JoinSet<()>,
    origin: String,
    browser: Browser,
}

type Dispatcher = SparkGenericModuleDispatcher<String, String>;

fn message_name(message: &str) -> &'static str {
    match message.split(' ').next() {
        Some("reserve") => "reserve",
        Some("release") => "release",
        Some("export") => "export ledger",
        Some("panic") => "panic",
        _ => "other",
    }
}

fn shop_module(system: &System, name: &str, capacity: usize) -> Dispatcher {
    let handle = module(Shop)
        .name(name)
        .capacity(capacity)
        .message_names(|message: &String| message_name(message))
        .spawn();
    let dispatcher = handle.dispatcher();
    system.register(&handle).expect("free");
    assert!(system.adopt(handle).is_ok());
    dispatcher
}

async fn scene() -> Scene {
    scene_with(ApiKeys::default()).await
}

/// A service with work to do, which asks for one of `keys` if there are any.
async fn scene_with(keys: ApiKeys) -> Scene {
    let system = System::new("shop");
    let seeing = Seeing::named("Corner shop", "1.4.2");
    let orders = shop_module(&system, "orders", 256);
    let stock = shop_module(&system, "stock", 128);
    let ledger = shop_module(&system, "ledger", 64);
    let mail = shop_module(&system, "mail", 32);
    let hostile = shop_module(&system, HOSTILE, 16);
    let prices = pool(4, || Shop).name("prices").capacity(512).spawn();
    let price = prices.dispatcher();
    system.register(&prices).expect("free");
    assert!(system.adopt(prices).is_ok());
    let hour = Duration::from_secs(3_600);
    let backoff = Backoff::exponential(hour, hour);
    let mut tree = Supervisor::new("tree", Strategy::OneForOne).backoff(backoff);
    let printer = tree.child(Child::new(|| Broken).name("printer"));
    system.register(&printer).expect("free");
    system.supervise(tree).expect("open");
    seeing.watch_system(&system);

    let ingress = Ingress::builder()
        .module("orders", TextCodec, orders.clone())
        .module("stock", TextCodec, stock.clone())
        .module("prices", TextCodec, price)
        .seeing(&seeing)
        .api_keys(keys)
        .build()
        .expect("valid");
    let mut load = JoinSet::new();
    for (route, message, millis) in [
        ("orders", "reserve 1", 4),
        ("orders", "release 3", 11),
        ("stock", "reserve", 3),
        ("stock", "reserve 2", 9),
        ("prices", "price 1", 2),
        ("prices", "price 6", 7),
        ("prices", "fail", 90),
    ] {
        load.spawn(post_every(millis, ingress.clone(), route, message));
    }
    load.spawn(send_every(25, mail, "other 40"));
    load.spawn(send_every(400, ledger.clone(), "reserve 5"));
    load.spawn(send_every(1_000, hostile, "other"));
    ledger.command("panic".to_owned()).await.expect("room");
    ledger
        .command("export 4000000".to_owned())
        .await
        .expect("room");
    let serving = serve(HttpServer::builder(), ingress).await;
    seeing.watch_server("public", &serving.handle);
    let origin = format!("http://{}", serving.address);
    Scene {
        serving,
        seeing,
        _system: system,
        load,
        browser: Browser::start().await,
        origin,
    }
}

async fn post_every(millis: u64, ingress: Ingress, route: &str, message: &str) {
    every(millis, || async {
        let request = Request::post(format!("/{route}")).body(Body::from(message.to_owned()));
        let _ = ingress.clone().oneshot(request.expect("valid")).await;
    })
    .await;
}

async fn send_every(millis: u64, dispatcher: Dispatcher, message: &str) {
    every(millis, || async {
        let _ = dispatcher.try_command(message.to_owned());
    })
    .await;
}

async fn every<F: Future<Output = ()>>(millis: u64, act: impl Fn() -> F) {
    let mut ticks = tokio::time::interval(Duration::from_millis(millis));
    loop {
        ticks.tick().await;
        act().await;
    }
}

impl Scene {
    /// Opens the page, and waits for its second picture, the first with rates.
    async fn open(&mut self) {
        self.browser.look(1280, 900, "light").await;
        self.browser.open(&format!("{}/_spark", self.origin)).await;
        self.browser
            .until("/^[0-9]/.test(document.querySelector('#sum-rate').textContent)")
            .await;
    }

    async fn end(self) {
        self.browser.close(&self.origin).await;
        drop(self.load);
        self.serving.handle.cut();
        self.serving.report().await;
    }
}

/// The names of the rows, from the top.
const NAMES: &str =
    "[...document.querySelectorAll('#modules .name')].map((name) => name.textContent)";

const FOCUSED: &str = "document.activeElement.querySelector?.('.name')?.textContent ?? ''";

const HOSTILE: &str = "<img src=x onerror=\"document.title='owned'\">\u{202e}'&amp;";

// --- what it shows

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_move_while_load_runs_and_nothing_is_asked_of_any_other_host() {
    let mut scene = scene().await;
    scene.open().await;
    let browser = &mut scene.browser;
    let of = |row: &str, cell: &str| {
        format!(
            "[...document.querySelectorAll('#modules tbody tr')]\
             .find((row) => row.querySelector('.name')?.textContent === '{row}')\
             .querySelector('{cell}').textContent"
        )
    };
    browser
        .until(&format!("/^[1-9]/.test({})", of("orders", ".rate .v")))
        .await;
    let handled = "document.querySelector('#routes .ok .v').textContent";
    let before = browser.text(handled).await;
    browser.until(&format!("{handled} !== '{before}'")).await;
    browser
        .until("document.querySelector('#modules .rate .line').getAttribute('d').includes('L')")
        .await;

    assert_eq!(
        browser
            .text("document.querySelector('h1').textContent")
            .await,
        "Corner shop"
    );
    assert_eq!(
        browser.text(&of("printer", ".state span")).await,
        "restarting"
    );
    assert_eq!(browser.text(&of("ledger", ".panics .v")).await, "1");
    assert_eq!(
        browser.text(&of("ledger", ".now .what")).await,
        "export ledger"
    );
    browser
        .until(&format!(
            "/^[0-9.]+ (ms|s)$/.test({})",
            of("ledger", ".now .age")
        ))
        .await;
    let p99 = browser.text(&of("orders", ".p99 .v")).await;
    assert!(
        p99.ends_with('s') && p99.starts_with(char::is_numeric),
        "{p99}"
    );
    // The pool names no messages: its routes tell.
    let p99 = browser.text(&of("prices", ".p99.of-routes .v")).await;
    assert!(
        p99.ends_with('s') && p99.starts_with(char::is_numeric),
        "{p99}"
    );
    assert_eq!(
        browser
            .text("document.querySelector('#link-text').textContent")
            .await,
        "Live"
    );
    browser
        .until("document.querySelector('#banner').textContent.includes('Not ready')")
        .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_text_whatever_is_in_them() {
    let mut scene = scene().await;
    scene.open().await;
    let browser = &mut scene.browser;
    let names = browser.eval(NAMES).await;
    // What would turn the direction of the text is shown as a sign of its own.
    let shown = HOSTILE.replace('\u{202e}', "\u{fffd}");
    let names = names.as_array().expect("names");
    assert!(names.contains(&Value::from(shown)), "{names:?}");
    assert_eq!(
        browser
            .eval("document.querySelectorAll('#modules img').length")
            .await,
        0
    );
    assert_eq!(browser.text("document.title").await, "Corner shop · Spark");
    // Nothing that gets into the page could run there, either.
    let blocked = browser
        .eval(
            "(() => {
        const script = document.createElement('script');
        script.textContent = 'window.ran = true';
        document.body.append(script);
        return window.ran === undefined;
    })()",
        )
        .await;
    assert_eq!(blocked, true);
    drop(scene);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_module_has_a_row_of_its_own_whatever_others_are_called() {
    let mut scene = scene().await;
    let names = ["twin", "twin", "twin #2", "twin", "twin #3"];
    let twins = names.map(|name| module(Shop).name(name).spawn());
    for twin in &twins {
        scene.seeing.watch(&twin.dispatcher());
    }
    scene.open().await;
    let browser = &mut scene.browser;
    browser.until(&format!("({NAMES}).length === 12")).await;
    let shown = format!("({NAMES}).filter((name) => name.startsWith('twin')).sort().join()");
    let rows = "twin,twin #2,twin #3,twin #4,twin #5";
    assert_eq!(browser.text(&shown).await, rows);
    // The ones that are called so are those that show it.
    browser
        .eval("document.querySelector('#filter').focus()")
        .await;
    browser.write("twin #2").await;
    assert_eq!(browser.eval(NAMES).await, serde_json::json!(["twin #2"]));
    scene.end().await;
}

// --- by keyboard

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_filtered_sorted_walked_and_opened_by_keyboard() {
    let mut scene = scene().await;
    scene.open().await;
    let browser = &mut scene.browser;

    browser.press("/").await;
    browser.write("orde").await;
    assert_eq!(browser.eval(NAMES).await, serde_json::json!(["orders"]));
    assert_eq!(
        browser
            .text("document.querySelector('#modules-count').textContent")
            .await,
        "1 of 7"
    );
    browser.write("zzz").await;
    browser
        .until("document.querySelector('#modules-empty').textContent.includes('ordezzz')")
        .await;
    browser.press("Escape").await;
    browser.until(&format!("({NAMES}).length === 7")).await;

    // Tab leads through the heads to the rows.
    browser
        .eval("document.querySelector('#filter').focus()")
        .await;
    browser.press("Tab").await;
    assert_eq!(
        browser.text("document.activeElement.textContent").await,
        "Module"
    );
    browser.press("Enter").await;
    let down = browser.eval(NAMES).await;
    browser.press("Enter").await;
    let up = browser.eval(NAMES).await;
    let reversed: Vec<Value> = down
        .as_array()
        .expect("names")
        .iter()
        .rev()
        .cloned()
        .collect();
    assert_eq!(up, Value::from(reversed));
    assert_eq!(
        browser
            .text("document.querySelector('[data-key=name]').ariaSort")
            .await,
        "ascending"
    );
    for _ in 0..2 {
        browser.press("Tab").await;
    }
    assert_eq!(
        browser.text("document.activeElement.textContent").await,
        "Per second"
    );
    browser.press("Enter").await;
    assert_eq!(
        browser
            .text("document.querySelector('[data-key=rate]').ariaSort")
            .await,
        "descending"
    );
    assert_eq!(
        browser
            .eval("document.querySelector('[data-key=name]').ariaSort")
            .await,
        Value::Null
    );

    for _ in 0..8 {
        browser.press("Tab").await;
    }
    let first = browser.text(FOCUSED).await;
    assert_eq!(browser.eval(NAMES).await[0], first);
    let outline = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.text(outline).await, "solid");
    browser.press("ArrowDown").await;
    assert_ne!(browser.text(FOCUSED).await, first);
    browser.press("End").await;
    let last = browser.text(FOCUSED).await;
    assert_eq!(browser.eval(NAMES).await[6], last);

    browser.press("Enter").await;
    assert_eq!(
        browser.text("document.activeElement.ariaExpanded").await,
        "true"
    );
    browser
        .until("document.querySelector('.more dt')?.textContent === 'capacity'")
        .await;
    // The focus stays where it is while pictures come.
    let about = "document.querySelector('#about').textContent";
    let then = browser.text(about).await;
    browser.until(&format!("{about} !== '{then}'")).await;
    assert_eq!(browser.text(FOCUSED).await, last);
    browser.press("Enter").await;
    assert_eq!(
        browser.eval("document.querySelector('.more')").await,
        Value::Null
    );
    scene.end().await;
}

// --- how it looks

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_is_readable_in_dark_and_light_and_nothing_scrolls_sideways_on_a_phone() {
    let mut scene = scene().await;
    scene.open().await;
    let browser = &mut scene.browser;
    let ground = "getComputedStyle(document.body).backgroundColor";
    let mut grounds = Vec::new();
    browser.until("[...document.querySelectorAll('#sum-spark .line')].every((line) => line.getAttribute('d').split('L').length > PICTURES)".replace("PICTURES", &pictures()).as_str()).await;
    browser
        .eval("document.querySelectorAll('#modules tbody tr')[2].click()")
        .await;
    for scheme in ["light", "dark"] {
        for (device, width, height) in [
            ("desk", 1280, 1000),
            ("tablet", 820, 1100),
            ("phone", 360, 740),
        ] {
            browser.look(width, height, scheme).await;
            let wide = browser
                .eval("document.documentElement.scrollWidth - innerWidth")
                .await;
            assert_eq!(wide, 0, "{scheme}, {device}");
            let faint = browser.eval(FAINT).await;
            assert_eq!(faint, serde_json::json!([]), "{scheme}, {device}");
            browser.shoot(&format!("{device}-{scheme}")).await;
        }
        grounds.push(browser.text(ground).await);
    }
    assert_ne!(grounds[0], grounds[1]);
    scene.end().await;
}

/// How many pictures to wait for: a full minute of lines looks better on a photograph.
fn pictures() -> String {
    let shoots = std::env::var_os("SPARK_HTTP_SHOTS").is_some();
    if shoots { "45" } else { "2" }.to_owned()
}

/// Texts whose contrast with what is behind them is below that of WCAG AA: 4.5, or 3 if large.
const FAINT: &str = "(() => {
    const parse = (color) => {
        const [r, g, b, a = 1] = color.match(/[0-9.]+/g).map(Number);
        return { r, g, b, a };
    };
    const over = (top, below) => {
        const mix = (one, other) => one * top.a + other * (1 - top.a);
        return { r: mix(top.r, below.r), g: mix(top.g, below.g), b: mix(top.b, below.b), a: 1 };
    };
    const behind = (element) => {
        if (!element) return { r: 255, g: 255, b: 255, a: 1 };
        const color = parse(getComputedStyle(element).backgroundColor);
        return color.a === 1 ? color : over(color, behind(element.parentElement));
    };
    const light = ({ r, g, b }) => {
        const part = (value) => {
            const share = value / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        };
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const faint = [];
    for (const element of document.body.querySelectorAll('*')) {
        const texts = [...element.childNodes].filter((node) => node.nodeType === 3);
        const text = texts.map((node) => node.data).join('').trim();
        if (!text || !element.checkVisibility() || element.closest('template, noscript, .unseen')) continue;
        const style = getComputedStyle(element);
        const [one, other] = [light(over(parse(style.color), behind(element))), light(behind(element))];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        if (contrast < (large ? 3 : 4.5)) faint.push(`${text}: ${contrast.toFixed(2)}`);
    }
    return faint;
})()";

// --- when the service goes

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_is_told_of_the_drain_and_does_not_hold_it_up() {
    let mut scene = scene().await;
    scene.open().await;
    scene.serving.handle.drain();
    let browser = &mut scene.browser;
    browser
        .until("document.querySelector('#link-text').textContent === 'Draining'")
        .await;
    browser
        .until("document.querySelector('#banner').textContent.includes('shutting down')")
        .await;
    browser.shoot("draining").await;
    assert!(!scene.seeing.is_ready());

    let report = within(scene.serving.report()).await;
    assert_eq!((report.cut, report.deadline_passed), (0, false));
    browser
        .until("document.querySelector('#link-text').textContent === 'Disconnected'")
        .await;
    browser.shoot("disconnected").await;
    // The numbers stay.
    assert_ne!(browser.eval(NAMES).await, serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_asks_for_a_key_shows_nothing_until_it_is_given() {
    let keys = ApiKeys::new([("operator", "the-key-of-the-operator")]).expect("valid");
    let mut scene = scene_with(keys).await;
    scene.browser.look(1280, 900, "dark").await;
    let page = format!("{}/_spark", scene.origin);
    let browser = &mut scene.browser;
    browser.open(&page).await;
    let asked = "!document.querySelector('#key').hidden";
    browser.until(asked).await;
    browser
        .until("document.activeElement.id === 'key-text'")
        .await;
    assert_eq!(browser.eval(NAMES).await, serde_json::json!([]));
    browser.shoot("locked").await;

    browser.write("wrong").await;
    browser.press("Enter").await;
    browser
        .until("document.querySelector('#key-text').value === ''")
        .await;
    browser.until(asked).await;
    assert_eq!(browser.eval(NAMES).await, serde_json::json!([]));

    // What no header can have is no key, either.
    browser.write("„wrong“ ключ").await;
    browser.press("Enter").await;
    browser
        .until("document.querySelector('#key-text').value === ''")
        .await;
    browser.until(asked).await;
    browser
        .until("document.querySelector('#key label').textContent.includes('not accept')")
        .await;

    browser.write("the-key-of-the-operator").await;
    browser.press("Enter").await;
    browser.until(&format!("({NAMES}).length === 7")).await;
    assert_eq!(browser.eval(asked).await, false);
    let kept =
        "[location.href, document.cookie, localStorage.length, sessionStorage.length].join()";
    assert_eq!(browser.text(kept).await, format!("{page},,0,0"));
}
