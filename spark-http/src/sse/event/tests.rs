use proptest::prelude::*;

use super::*;

/// What a client makes of a stream: WHATWG HTML 9.2.6, written down step by step.
#[derive(Debug, Default, PartialEq)]
struct Client {
    dispatched: Vec<Dispatched>,
    last_event_id: String,
    reconnection_time: Option<u64>,
}

#[derive(Debug, PartialEq)]
struct Dispatched {
    kind: String,
    data: String,
    last_event_id: String,
}

impl Client {
    fn reads(stream: &str) -> Self {
        let mut client = Self::default();
        let (mut data, mut event_type, mut id) = (String::new(), String::new(), String::new());
        let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
        let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
        // What follows the last line break is no line.
        let Some((lines, _)) = stream.rsplit_once('\n') else {
            return client;
        };
        for line in lines.split('\n') {
            if line.is_empty() {
                client.last_event_id.clone_from(&id);
                if data.is_empty() {
                    event_type.clear();
                    continue;
                }
                data.pop();
                let kind = match std::mem::take(&mut event_type) {
                    none if none.is_empty() => "message".to_owned(),
                    kind => kind,
                };
                client.dispatched.push(Dispatched {
                    kind,
                    data: std::mem::take(&mut data),
                    last_event_id: id.clone(),
                });
                continue;
            }
            let (field, value) = match line.split_once(':') {
                Some(("", _)) => continue,
                Some((field, value)) => (field, value.strip_prefix(' ').unwrap_or(value)),
                None => (line, ""),
            };
            match field {
                "event" => event_type = value.to_owned(),
                "data" => {
                    data.push_str(value);
                    data.push('\n');
                }
                "id" if !value.contains('\0') => id = value.to_owned(),
                "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                    client.reconnection_time = value.parse().ok();
                }
                _ => {}
            }
        }
        client
    }
}

fn wire(event: &SseEvent) -> String {
    String::from_utf8(event.encode().to_vec()).expect("UTF-8")
}

#[test]
fn an_event_is_its_fields_a_line_each_and_an_empty_line() -> Result<(), InvalidSseEvent> {
    let event = SseEvent::new("one\ntwo").name("n")?.id("7")?;
    let event = event.retry(Duration::from_millis(1_500));
    assert_eq!(
        wire(&event),
        "event: n\nid: 7\nretry: 1500\ndata: one\ndata: two\n\n"
    );
    assert_eq!(wire(&SseEvent::new("")), "data:\n\n");
    assert_eq!(wire(&SseEvent::comment("")), ":\n\n");
    assert_eq!(wire(&SseEvent::comment("a\nb")), ": a\n: b\n\n");
    assert_eq!(
        wire(&SseEvent::new("a\r\n\rb\r")),
        "data: a\ndata:\ndata: b\ndata:\n\n"
    );
    assert_eq!(wire(&SseEvent::json("x")?), "data: \"x\"\n\n");
    Ok(())
}

#[test]
fn what_would_be_another_field_is_refused() {
    for text in ["a\nb", "a\r", "\r\ndata: x"] {
        assert!(SseEvent::new("").name(text.to_owned()).is_err());
        assert!(SseEvent::new("").id(text).is_err());
    }
    assert!(SseEvent::new("").id("a\0").is_err());
}

/// Text with all that could be taken for something else.
fn nasty() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("\r\n".to_owned()),
        Just(":".to_owned()),
        Just(" ".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("data: ".to_owned()),
        Just("id".to_owned()),
        ".{0,3}",
    ];
    proptest::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
}

fn event() -> impl Strategy<Value = SseEvent> {
    let retry = proptest::option::of(0_u64..100_000);
    (
        nasty(),
        nasty(),
        proptest::option::of(nasty()),
        retry,
        proptest::option::of(nasty()),
    )
        .prop_filter_map("no lines", |(data, name, id, retry, comment)| {
            let mut event = SseEvent::new(data).name(name).ok()?;
            if let Some(id) = id {
                event = event.id(id).ok()?;
            }
            event.comment = comment;
            Some(event.retry_after(retry.map(Duration::from_millis)))
        })
}

proptest! {
    #[test]
    fn a_client_of_the_standard_reads_what_was_said(
        events in proptest::collection::vec(event(), 0..6),
    ) {
        let stream: String = events.iter().map(wire).collect::<Vec<_>>().concat();
        let client = Client::reads(&stream);
        let mut id = String::new();
        let mut expected = Client::default();
        for event in events {
            if let Some(new) = event.id {
                id = new;
            }
            if let Some(retry) = event.retry {
                expected.reconnection_time = u64::try_from(retry.as_millis()).ok();
            }
            let data = event.data.unwrap_or_default();
            expected.dispatched.push(Dispatched {
                kind: match &*event.name {
                    "" => "message".to_owned(),
                    name => name.to_owned(),
                },
                data: data.replace("\r\n", "\n").replace('\r', "\n"),
                last_event_id: id.clone(),
            });
        }
        expected.last_event_id = id;
        prop_assert_eq!(client, expected);
    }
}
