use std::{future::pending, sync::Arc};

use futures_util::{SinkExt as _, StreamExt as _, stream};
use proptest::prelude::*;
use tokio::{
    io::{DuplexStream, duplex},
    sync::{Notify, Semaphore},
    task::JoinHandle,
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        ping_every: 10 * SECOND,
        pings_missed_max: 2,
        message_limit: 1024,
        calls_max: 2,
        write_timeout: 30 * SECOND,
        close_timeout: 5 * SECOND,
    }
}

/// Says back what it hears, each once there is a permit.
struct Echo {
    gate: Arc<Semaphore>,
    /// Messages that have been read.
    begun: Arc<Semaphore>,
}

impl Conversation for Echo {
    fn begin(&self, message: WsMessage) -> Step {
        self.begun.add_permits(1);
        assert!(message.as_text() != Some("panic"), "secret-panic-text");
        let gate = Arc::clone(&self.gate);
        Step::Call(Box::pin(async move {
            gate.acquire().await.map_err(|_| Close::fault())?.forget();
            Ok(Some(message))
        }))
    }
}

struct Talk {
    client: WebSocketStream<DuplexStream>,
    gate: Arc<Semaphore>,
    begun: Arc<Semaphore>,
    drain: Arc<Notify>,
    session: JoinHandle<()>,
}

/// A session over a pipe that holds `buffered` bytes, and its client.
async fn talk(buffered: usize, settings: Settings, events: Option<Events>) -> Talk {
    let (ours, theirs) = duplex(buffered);
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let echo = Echo {
        gate: Arc::clone(&gate),
        begun: Arc::clone(&begun),
    };
    let drain = Arc::new(Notify::new());
    let told = Arc::clone(&drain);
    let draining = Box::pin(async move { told.notified().await });
    let session = tokio::spawn(run(ours, settings, Box::new(echo), events, draining));
    Talk {
        client: WebSocketStream::from_raw_socket(theirs, Role::Client, None).await,
        gate,
        begun,
        drain,
        session,
    }
}

impl Talk {
    async fn say(&mut self, text: &str) {
        self.client.send(Wire::text(text)).await.expect("open");
    }

    /// The code of the close, after any pings.
    async fn close_code(&mut self) -> u16 {
        loop {
            match self.client.next().await {
                Some(Ok(Wire::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(Wire::Ping(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_pinged_every_ten_seconds_and_kept_while_it_answers() {
    let mut talk = talk(1024, settings(), None).await;
    let start = Instant::now();
    for number in 1..=5 {
        // Reading it is what makes the client answer.
        assert!(matches!(talk.client.next().await, Some(Ok(Wire::Ping(_)))));
        assert_eq!(start.elapsed(), number * 10 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_cut_after_two() {
    let talk = talk(1024, settings(), None).await;
    let start = Instant::now();
    talk.session.await.expect("no panic");
    assert_eq!(start.elapsed(), 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_silent_while_nobody_listens() {
    let mut talk = talk(1024, settings(), None).await;
    for text in ["1", "2", "3"] {
        talk.say(text).await;
    }
    // Two are under way, so the third is not read, nor is any pong.
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(talk.begun.available_permits(), 2);
    talk.gate.add_permits(3);
    let mut answers = Vec::new();
    while answers.len() < 3 {
        if let Some(Ok(Wire::Text(text))) = talk.client.next().await {
            answers.push(text.to_string());
        }
    }
    assert_eq!(answers, ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut_after_the_write_timeout_and_its_events_are_dropped() {
    let dropped = Arc::new(());
    let held = Arc::clone(&dropped);
    let events = stream::repeat_with(move || {
        let _ = &held;
        Ok(WsMessage::text("x".repeat(100)))
    });
    let talk = talk(256, settings(), Some(Box::pin(events))).await;
    let start = Instant::now();
    talk.session.await.expect("no panic");
    assert_eq!(start.elapsed(), 30 * SECOND);
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[tokio::test(start_paused = true)]
async fn at_the_drain_what_is_under_way_is_answered_and_events_that_wait_go_out() {
    let events = stream::iter([Ok(WsMessage::text("event"))]).chain(stream::pending());
    let gated = Arc::new(Semaphore::new(0));
    let opens = Arc::clone(&gated);
    let events = stream::once(async move {
        opens.acquire().await.expect("open").forget();
        Ok(WsMessage::text("first"))
    })
    .chain(events);
    let mut talk = talk(1024, settings(), Some(Box::pin(events))).await;
    talk.say("asked").await;
    talk.begun.acquire().await.expect("open").forget();
    talk.drain.notify_one();
    talk.say("too late").await;
    tokio::time::sleep(SECOND).await;
    gated.add_permits(1);
    talk.gate.add_permits(2);
    let mut heard = Vec::new();
    let code = loop {
        match talk.client.next().await {
            Some(Ok(Wire::Text(text))) => heard.push(text.to_string()),
            Some(Ok(Wire::Close(Some(frame)))) => break u16::from(frame.code),
            other => panic!("{other:?}"),
        }
    };
    heard.sort_unstable();
    assert_eq!(
        (heard, code),
        (["asked", "event", "first"].map(String::from).to_vec(), 1001)
    );
    assert_eq!(talk.begun.available_permits(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_closes_the_socket_without_its_text() {
    let mut talk = talk(1024, settings(), None).await;
    talk.say("panic").await;
    let Some(Ok(Wire::Close(Some(frame)))) = talk.client.next().await else {
        panic!("no close");
    };
    assert_eq!(
        (u16::from(frame.code), frame.reason.as_str()),
        (1011, "internal error")
    );
    assert!(talk.client.next().await.is_none());
    talk.session.await.expect("caught");
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_closes_with_1009_whole_or_in_pieces() {
    let mut whole = talk(64 * 1024, settings(), None).await;
    whole.say(&"x".repeat(1025)).await;
    assert_eq!(whole.close_code().await, 1009);

    let mut pieces = talk(64 * 1024, settings(), None).await;
    let socket = pieces.client.get_mut();
    // Unfinished text, then its continuation; the mask is zero.
    for head in [0x01, 0x00] {
        let frame = [&[head, 0xfe, 3, 0, 0, 0, 0, 0][..], &[b'x'; 768]].concat();
        socket.write_all(&frame).await.expect("room");
    }
    assert_eq!(pieces.close_code().await, 1009);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_close_is_left_after_a_while() {
    let talk = talk(64 * 1024, settings(), None).await;
    talk.drain.notify_one();
    let start = Instant::now();
    talk.session.await.expect("no panic");
    assert_eq!(start.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_close_of_the_clients_is_answered_and_what_is_under_way_is_dropped() {
    let mut talk = talk(1024, settings(), None).await;
    talk.say("asked").await;
    talk.begun.acquire().await.expect("open").forget();
    assert_eq!(Arc::strong_count(&talk.gate), 3);
    talk.client.close(None).await.expect("open");
    assert!(matches!(talk.client.next().await, Some(Ok(Wire::Close(_)))));
    assert!(talk.client.next().await.is_none());
    talk.session.await.expect("no panic");
    assert_eq!(Arc::strong_count(&talk.gate), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_noticed_while_as_much_is_under_way_as_may_be() {
    let mut talk = talk(1024, settings(), None).await;
    for text in ["1", "2"] {
        talk.say(text).await;
    }
    let _ = talk.begun.acquire_many(2).await.expect("open");
    let start = Instant::now();
    drop(talk.client);
    talk.session.await.expect("no panic");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(Arc::strong_count(&talk.gate), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_cut_while_as_much_is_under_way_as_may_be() {
    let mut talk = talk(1024, settings(), None).await;
    let start = Instant::now();
    for text in ["1", "2"] {
        talk.say(text).await;
    }
    talk.session.await.expect("no panic");
    assert_eq!(start.elapsed(), 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pings_and_takes_no_pong_is_not_read_any_further() {
    let mut talk = talk(256, settings(), None).await;
    let ping = [&[0x89, 0xFD, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let socket = talk.client.get_mut();
    let mut accepted = 0;
    let flood = async {
        while accepted < 1_000 {
            socket.write_all(&ping).await.expect("open");
            accepted += 1;
        }
    };
    let flooded = tokio::time::timeout(SECOND, flood).await;
    assert!(
        flooded.is_err() && accepted < 200,
        "{accepted} pings were read"
    );
    let start = Instant::now();
    talk.session.await.expect("no panic");
    assert_eq!(start.elapsed(), 29 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_to_send_a_message_is_not_silent() {
    let mut talk = talk(4096, settings(), None).await;
    talk.gate.add_permits(1);
    let socket = talk.client.get_mut();
    let head = [0x81, 0xfe, 0, 200, 0, 0, 0, 0];
    for byte in head.into_iter().chain([b'x'; 200]) {
        socket.write_all(&[byte]).await.expect("open");
        tokio::time::sleep(SECOND).await;
    }
    let answer = loop {
        match talk.client.next().await {
            Some(Ok(Wire::Text(text))) => break text,
            Some(Ok(Wire::Ping(_))) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(answer.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_to_take_a_message_is_not_stalled() {
    let mut settings = settings();
    settings.ping_every = Duration::MAX;
    let event = stream::iter([Ok(WsMessage::text("x".repeat(4096)))]);
    let events = event.chain(stream::pending());
    let mut talk = talk(64, settings, Some(Box::pin(events))).await;
    let socket = talk.client.get_mut();
    let mut taken = Vec::new();
    while taken.len() < 4096 {
        tokio::time::sleep(SECOND).await;
        let mut some = [0; 32];
        let read = socket.read(&mut some).await.expect("open");
        assert_ne!(read, 0, "cut after {} bytes", taken.len());
        taken.extend_from_slice(&some[..read]);
    }
}

#[test]
fn a_reason_is_cut_between_characters_where_it_no_longer_fits() {
    let close = Close::malformed(&"é".repeat(100));
    assert_eq!(close.reason, "é".repeat(61));
    assert_eq!(Close::malformed("").reason, "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_bytes_are_survived(
        frames in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                // A masked frame of any kind, so that some get further.
                (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..100)).prop_map(|(head, data)| {
                    let length = u8::try_from(data.len()).expect("short");
                    [&[head & 0x8f, 0x80 | length, 0, 0, 0, 0][..], &data].concat()
                }),
            ],
            0..8,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (ours, mut theirs) = duplex(64 * 1024);
            let gate = Arc::new(Semaphore::new(100));
            let begun = Arc::new(Semaphore::new(0));
            let echo = Box::new(Echo { gate, begun });
            let session = run(ours, settings(), echo, None, Box::pin(pending()));
            let client = async {
                theirs.write_all(&frames.concat()).await.expect("room");
                theirs.shutdown().await.expect("open");
                let mut answers = Vec::new();
                let _ = theirs.read_to_end(&mut answers).await;
            };
            tokio::join!(session, client);
        });
    }
}
