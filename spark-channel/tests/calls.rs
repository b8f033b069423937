//! Calls that know the type of their answer.

use std::{future::pending, time::Duration};

use spark_channel::{
    AnyResponse, Call, NativeHandler, SparkChannelError, SparkGenericModuleDispatcher, spawn_module,
};
use tokio::time::Instant;

use crate::support::{reason, within};

mod support;

#[derive(Debug, PartialEq)]
enum Ask {
    GetData(String),
    Update(String, u32),
    IsEmpty,
    /// Answers with what was not asked for.
    Confused,
    Hang,
}

enum Answer {
    Data(Vec<u32>),
    Success(bool),
    Nothing,
}

spark_channel::calls! {
    Ask => Answer;

    /// The numbers under a key.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) GetData(key: String) -> Data(Vec<u32>);
    Update(key: String, value: u32) -> Success(bool);
    IsEmpty -> Success(bool);
    Confused -> Data(Vec<u32>);
    Hang -> Success(bool);
}

#[derive(Default)]
struct Store {
    data: Vec<(String, u32)>,
}

impl NativeHandler for Store {
    type Message = Ask;
    type Response = Answer;
    type Error = eyre::Report;

    async fn handle_request(&mut self, ask: Ask) -> eyre::Result<Answer> {
        Ok(match ask {
            Ask::GetData(wanted) => {
                eyre::ensure!(!wanted.is_empty(), "no key");
                let of_key = self.data.iter().filter(|(key, _)| *key == wanted);
                Answer::Data(of_key.map(|(_, value)| *value).collect())
            }
            Ask::Update(key, value) => {
                self.data.push((key, value));
                Answer::Success(true)
            }
            Ask::IsEmpty => Answer::Success(self.data.is_empty()),
            Ask::Confused if self.data.is_empty() => Answer::Nothing,
            Ask::Confused => Answer::Success(true),
            Ask::Hang => pending().await,
        })
    }

    async fn handle_command(&mut self, _: Ask) -> eyre::Result<()> {
        Ok(())
    }
}

fn store() -> SparkGenericModuleDispatcher<Ask, Answer> {
    spawn_module(Store::default()).dispatcher()
}

#[tokio::test(start_paused = true)]
async fn a_call_resolves_to_the_reply_of_its_own_type() {
    let store = store();

    let is_empty: bool = within(store.call(IsEmpty)).await.expect("answered");
    let updated: bool = within(store.call(Update("key".into(), 7)))
        .await
        .expect("answered");
    let data: Vec<u32> = within(store.call(GetData("key".into())))
        .await
        .expect("answered");

    assert!(is_empty && updated);
    assert_eq!(data, [7]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_variant_is_an_error_that_names_both() {
    let store = store();

    let not_listed = within(store.call(Confused)).await;
    within(store.call(Update("key".into(), 7)))
        .await
        .expect("answered");
    let listed = within(store.call(Confused)).await;

    let unexpected = |found| SparkChannelError::unexpected_response("Data", found);
    assert_eq!(reason(not_listed), unexpected("another variant"));
    assert_eq!(reason(listed), unexpected("Success"));
}

#[tokio::test(start_paused = true)]
async fn the_handlers_own_error_reaches_the_caller_untouched() {
    let error = within(store().call(GetData(String::new()))).await;
    assert_eq!(error.expect_err("no key").to_string(), "no key");
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_the_limits_of_a_request() {
    let store = store();
    let second = Duration::from_secs(1);
    let start = Instant::now();

    let calls = [
        store.call(Hang).timeout(second),
        store.call(Hang).deadline(start + second),
        store.call(Hang).timeout(5 * second).at_most(start + second),
    ];

    for call in calls {
        let gave_up = reason(within(call).await);
        assert!(
            matches!(gave_up, SparkChannelError::TimedOut { .. }),
            "{gave_up}"
        );
        assert_eq!(start.elapsed().as_secs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_no_room_gives_its_message_back() {
    let module = spark_channel::module(Store::default()).capacity(1).spawn();
    let store = module.dispatcher();
    let first = store.try_call(IsEmpty).expect("there is room");

    let refused = store
        .try_call(Update("key".into(), 7))
        .expect_err("there is none");

    assert_eq!(refused.reason, SparkChannelError::Full);
    assert_eq!(refused.into_inner(), Ask::Update("key".into(), 7));
    assert!(within(first).await.expect("answered"));
}

#[tokio::test(start_paused = true)]
async fn a_request_can_be_projected_in_place() {
    let count = |answer| match answer {
        Answer::Data(data) => Ok(data.len()),
        _ => Err(SparkChannelError::unexpected_response("Data", "another")),
    };
    let store = store();
    let request = store.request(Ask::GetData("key".into())).typed(count);
    assert_eq!(within(request).await.expect("answered"), 0);
}

// --- responses of any type

struct Length(&'static str);
struct Reversed(&'static str);
/// Expects a number, and gets a text.
struct Wrong(&'static str);

enum TextAsk {
    Length(&'static str),
    Reversed(&'static str),
}

impl Call<TextAsk, AnyResponse> for Length {
    type Reply = usize;

    fn into_message(self) -> TextAsk {
        TextAsk::Length(self.0)
    }

    fn project(response: AnyResponse) -> Result<usize, SparkChannelError> {
        response.into_reply()
    }
}

impl Call<TextAsk, AnyResponse> for Reversed {
    type Reply = String;

    fn into_message(self) -> TextAsk {
        TextAsk::Reversed(self.0)
    }

    fn project(response: AnyResponse) -> Result<String, SparkChannelError> {
        response.into_reply()
    }
}

impl Call<TextAsk, AnyResponse> for Wrong {
    type Reply = u8;

    fn into_message(self) -> TextAsk {
        TextAsk::Reversed(self.0)
    }

    fn project(response: AnyResponse) -> Result<u8, SparkChannelError> {
        response.into_reply()
    }
}

struct Text;

impl NativeHandler for Text {
    type Message = TextAsk;
    type Response = AnyResponse;
    type Error = eyre::Report;

    async fn handle_request(&mut self, ask: TextAsk) -> eyre::Result<AnyResponse> {
        Ok(match ask {
            TextAsk::Length(text) => AnyResponse::new(text.len()),
            TextAsk::Reversed(text) => AnyResponse::new(text.chars().rev().collect::<String>()),
        })
    }

    async fn handle_command(&mut self, _: TextAsk) -> eyre::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_of_any_response_answers_each_call_with_its_own_type() {
    let text = spawn_module(Text).dispatcher();

    assert_eq!(
        within(text.call(Length("four"))).await.expect("answered"),
        4
    );
    assert_eq!(
        within(text.call(Reversed("four"))).await.expect("answered"),
        "ruof"
    );
}

#[tokio::test(start_paused = true)]
async fn another_type_than_the_expected_one_is_an_error_that_names_both() {
    let text = spawn_module(Text).dispatcher();

    let wrong = reason(within(text.call(Wrong("four"))).await);

    assert_eq!(
        wrong,
        SparkChannelError::unexpected_response("u8", "alloc::string::String")
    );
    assert!(!wrong.never_started() && !wrong.is_retryable());
}

#[test]
fn an_any_response_is_given_back_whole_when_it_is_something_else() {
    let response = AnyResponse::new(7_u32);
    assert!(response.is::<u32>() && !response.is::<u64>());
    assert_eq!(response.downcast_ref::<u32>(), Some(&7));

    let response = response.downcast::<u64>().expect_err("it is a u32");
    assert_eq!(response.type_name(), "u32");
    assert_eq!(response.downcast::<u32>().expect("it is a u32"), 7);
}
