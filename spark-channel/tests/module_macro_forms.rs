//! `#[module]` in the places and shapes it may stand in, without a warning.

#![cfg(feature = "macros")]
#![deny(warnings, clippy::pedantic, clippy::nursery)]
#![allow(
    clippy::redundant_pub_crate,
    reason = "the contrary of `unreachable_pub`"
)]

use std::{fmt::Debug, io, sync::Arc};

use spark_channel::{
    ReplyStreamSender, SparkChannelError, Stop, module, pool, spawn_module, testing::Driver,
};

use crate::support::{Log, within};

mod support;

/// Names that a prelude has, and others that are in the way.
mod shadowed {
    #![allow(dead_code, non_snake_case, reason = "they are there to be in the way")]

    struct Result;
    struct Option;
    struct Box;
    struct Vec;
    struct String;
    struct Send;
    struct From;
    struct Clone;
    const fn Ok() {}
    const fn Err() {}
    const fn Some() {}
    const fn None() {}
    const fn drop() {}
    mod core {}
    mod std {}
    mod spark_channel {}
    mod eyre {}

    pub(super) struct Tea;

    #[::spark_channel::module(pub(super), mock, crate = ::spark_channel)]
    impl Tea {
        /// All arguments have names that the macro uses too.
        #[request(timeout = "1s")]
        async fn ask(
            &self,
            message: u8,
            reply: u8,
            other: u8,
            dispatcher: u8,
            response: u8,
            answer: u8,
        ) -> u8 {
            message + reply + other + dispatcher + response + answer
        }

        #[request]
        async fn r#try(
            &mut self,
            r#type: u8,
        ) -> ::std::result::Result<u8, ::spark_channel::SparkChannelError> {
            ::std::result::Result::Ok(r#type)
        }

        #[command]
        async fn tell(&mut self, message: u8, reason: u8, f: u8, given: u8, answered: u8) {
            assert!(message + reason + f + given + answered > 0);
        }

        #[request(stream, buffer = 3)]
        async fn pour(
            &self,
            message: u8,
            response: &::spark_channel::ReplyStreamSender<u8, ::spark_channel::SparkChannelError>,
        ) {
            let _gone = response.send(message).await;
        }

        #[request]
        async fn clone(&self) -> u8 {
            1
        }

        #[request]
        async fn name(&self) -> u8 {
            2
        }

        #[request]
        async fn from(&self) -> u8 {
            3
        }

        #[request]
        async fn handle_request(&self, message: u8) -> u8 {
            message
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_name_of_the_users_is_in_the_way() {
    use shadowed::{Tea, TeaApi, TeaClient, TeaMock};

    let handle = spawn_module(Tea);
    let tea: TeaClient = handle.dispatcher().into();
    assert_eq!(within(tea.ask(1, 2, 3, 4, 5, 6)).await, Ok(21));
    assert_eq!(within(tea.r#try(7)).await, Ok(7));
    assert_eq!(within(tea.pour(7).next()).await, Some(Ok(7)));
    assert_eq!(within(tea.clone()).await, Ok(1));
    assert_eq!(within(tea.name()).await, Ok(2));
    assert_eq!(within(tea.from()).await, Ok(3));
    assert_eq!(within(tea.handle_request(4)).await, Ok(4));
    within(tea.tell(1, 2, 3, 4, 5)).await.expect("accepted");
    within(handle.shutdown(Stop::Drain)).await;

    let mock = TeaMock::new();
    mock.on_ask(|message, reply, _, _, _, _| Ok(message + reply))
        .on_tell(|_, _, _, _, _| Err(SparkChannelError::Full));
    assert_eq!(TeaApi::ask(&mock, 1, 2, 3, 4, 5, 6).await, Ok(3));
    assert!(TeaApi::tell(&mock, 1, 2, 3, 4, 5).await.is_err());
    assert_eq!(mock.ask_calls(), [(1, 2, 3, 4, 5, 6)]);
    assert_eq!(mock.tell_calls(), [(1, 2, 3, 4, 5)]);
}

macro_rules! counter {
    ($name:ident, $type:ty, $method:ident) => {
        /// Written by a macro.
        #[derive(Debug, Default)]
        pub struct $name($type);

        #[module(mock)]
        impl $name {
            /// Adds.
            #[request]
            pub async fn $method(&mut self, more: $type) -> $type {
                self.0 += more;
                self.0
            }

            /// Adds, silently.
            #[command]
            pub async fn silently(&mut self, more: $type) {
                self.0 += more;
            }
        }
    };
}

counter!(Small, u8, add);
counter!(Large, u64, enlarge);

#[tokio::test(start_paused = true)]
async fn a_macro_may_write_modules() {
    let small = SmallClient::from(spawn_module(Small::default()).dispatcher());
    let large = LargeClient::from(spawn_module(Large::default()).dispatcher());
    within(small.silently(1)).await.expect("accepted");
    assert_eq!(within(small.add(1)).await.expect("answered"), 2);
    assert_eq!(within(large.enlarge(1)).await.expect("answered"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_module_may_be_local_to_a_function() {
    struct Local(u8);

    #[module]
    impl Local {
        #[request]
        async fn value(&self) -> eyre::Result<u8> {
            Ok(self.0)
        }
    }

    let local = LocalClient::from(spawn_module(Local(7)).dispatcher());
    assert_eq!(within(local.value()).await.expect("answered"), 7);
}

struct Measures;

#[module(mock)]
impl Measures {
    /// A lifetime that the trait and the mock each have to find for themselves.
    #[request]
    async fn measure(&self) -> Arc<dyn Fn(&str) -> usize + Send + Sync> {
        Arc::new(str::len)
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_may_be_a_function() {
    let measures = MeasuresClient::from(spawn_module(Measures).dispatcher());
    let measure = within(measures.measure()).await.expect("answered");
    assert_eq!(measure("four"), 4);
    let mock = MeasuresMock::new();
    mock.on_measure(|| Ok(Arc::new(|_| 7)));
    let measure = MeasuresApi::measure(&mock).await.expect("answered");
    assert_eq!(measure("four"), 7);
}

/// What most of a crate's functions return.
type Result<T, E = Failure> = core::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Call(#[from] SparkChannelError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Some of it is there on some platforms only.
struct Files {
    log: Log,
}

#[module(mock)]
impl Files {
    #[cfg(feature = "macros")]
    #[request]
    async fn sync(&mut self) -> Result<()> {
        Err(Failure::Io(io::ErrorKind::Other.into()))
    }

    #[cfg(not(feature = "macros"))]
    #[request]
    async fn sync(&mut self) -> Absent {
        absent()
    }

    #[request]
    async fn length(&self) -> core::result::Result<u64, io::Error> {
        Err(io::ErrorKind::NotFound.into())
    }

    #[deprecated = "there are no tapes any more"]
    #[request]
    async fn rewind(&self) -> u8 {
        0
    }

    #[cfg(not(feature = "macros"))]
    #[started]
    async fn open_elsewhere(&mut self) {}

    #[cfg(feature = "macros")]
    #[started]
    async fn open(&mut self) {
        self.log.push("open");
    }

    #[cfg(not(feature = "macros"))]
    #[stopped]
    async fn close(&mut self) {}
}

#[module]
#[cfg(not(feature = "macros"))]
impl Absent {
    #[request]
    async fn absent(&self) -> Absent {
        absent()
    }
}

struct Nothing;

#[module(mock)]
impl Nothing {
    #[cfg(not(feature = "macros"))]
    #[request]
    async fn absent(&self) -> Absent {
        absent()
    }
}

#[tokio::test(start_paused = true)]
async fn conditions_hold_for_all_that_is_made_and_an_alias_says_what_the_error_is() {
    let log = Log::default();
    let handle = spawn_module(Files { log: log.clone() });
    let files = FilesClient::from(handle.dispatcher());

    let failed: Result<()> = within(files.sync()).await;
    assert!(matches!(failed, Err(Failure::Io(_))), "{failed:?}");
    let failed = within(files.length()).await;
    assert!(matches!(failed, Err(Failure::Io(_))), "{failed:?}");
    assert_eq!(log.lines(), ["open"]);

    within(handle.shutdown(Stop::Drain)).await;
    within(spawn_module(Nothing).shutdown(Stop::Drain)).await;
}

/// Spelled as only some names have to be.
struct r#Odd;

#[module(mock)]
impl r#Odd {
    #[request]
    async fn _2nd(&self) -> core::result::Result<u8, Failure> {
        Ok(2)
    }

    #[command]
    async fn __(&self) {}
}

#[tokio::test(start_paused = true)]
async fn every_name_a_method_may_have_makes_a_message() {
    let odd = OddClient::from(spawn_module(Odd).dispatcher());
    let accepted = within(odd.dispatcher().command(OddMessage::__)).await;
    assert!(accepted.is_ok());
    let second = within(odd.dispatcher().request(OddMessage::_2nd)).await;
    assert!(matches!(second, Ok(OddResponse::_2nd(2))));
}

/// What the blocks of one type make has names of its own each, and so has this.
#[derive(Debug)]
pub struct BarrelReplies;

struct Barrel<T>(T);

#[module]
impl Barrel<u8> {
    #[request]
    async fn litres(&self) -> u8 {
        self.0
    }
}

#[module(message = Ask, response = Answer, client = Cooper, api = Cooperage)]
impl Barrel<bool> {
    #[request]
    async fn is_full(&self) -> bool {
        self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_type_may_be_several_modules() {
    let litres = BarrelClient::from(spawn_module(Barrel(7)).dispatcher());
    let cooper = Cooper::from(spawn_module(Barrel(true)).dispatcher());
    assert_eq!(within(litres.litres()).await.expect("answered"), 7);
    assert!(within(cooper.is_full()).await.expect("answered"));
}

/// A visible handler whose methods are not.
#[derive(Debug)]
pub struct Visible;

#[module(derive(Clone, PartialEq, Eq, Debug))]
impl Visible {
    #[command]
    async fn note(&mut self, line: String) {
        drop(line);
    }
}

/// And one whose methods are more visible than what is made of them.
struct Hidden<T>(T);

#[module(pub(self))]
impl<T: Clone + Debug + Send + Sync + 'static> Hidden<T>
where
    Vec<T>: Debug,
{
    #[request]
    pub(crate) async fn all(&self, times: usize) -> Vec<T> {
        vec![self.0.clone(); times]
    }
}

/// Bounds that speak of parameters which its messages do not have.
struct Scale<K, V>(Vec<(K, V)>);

#[module(mock)]
impl<K, V> Scale<K, V>
where
    K: Into<V> + Clone + Send + Sync + 'static,
    V: Default + Send + Sync + 'static,
{
    #[request]
    async fn weigh(&mut self, thing: K) -> usize {
        self.0.push((thing.clone(), thing.into()));
        self.0.len()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_made_has_only_the_parameters_it_names() {
    let scale = spawn_module(Scale::<u8, u64>(Vec::new()));
    let scale: ScaleClient<u8> = scale.dispatcher().into();
    assert_eq!(within(scale.weigh(1)).await.expect("answered"), 1);
    let mock = ScaleMock::<u8>::new();
    mock.on_weigh(|thing| Ok(thing.into()));
    assert_eq!(ScaleApi::weigh(&mock, 7).await.expect("answered"), 7);
}

#[tokio::test(start_paused = true)]
async fn messages_derive_what_they_are_told_to() {
    let visible = pool(2, || Visible).broadcast().spawn();
    let note = VisibleMessage::Note { line: "a".into() };
    assert_eq!(format!("{note:?}"), r#"Note { line: "a" }"#);
    assert_eq!(note, note.clone());

    let client = VisibleClient::from(visible.dispatcher());
    within(client.note("b".into())).await.expect("accepted");
    let report = within(visible.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.copies), (1, 1));
}

struct Sorter;

/// What pedants have against them, and are told that it is meant.
#[module(mock)]
#[expect(clippy::type_complexity, reason = "tables")]
impl Sorter {
    #[request]
    #[expect(clippy::too_many_arguments, reason = "eight bins")]
    #[expect(clippy::many_single_char_names, reason = "eight bins")]
    async fn fill(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> u8 {
        a + b + c + d + e + f + g + h
    }

    #[request]
    async fn sort(&self, table: Vec<(u8, Vec<Result<Vec<(u8, u16)>, Vec<Option<(u8, String)>>>>)>) {
        drop(table);
    }

    #[request(stream)]
    async fn sorted(
        &self,
        rows: &ReplyStreamSender<Vec<(u8, Vec<Result<Vec<(u8, u16)>, Vec<Option<(u8, String)>>>>)>>,
    ) {
        rows.try_send(Vec::new()).expect("there is room");
    }

    #[request]
    #[expect(clippy::fn_params_excessive_bools, reason = "four flaps")]
    async fn open(&mut self, a: bool, b: bool, c: bool, d: bool) -> bool {
        a && b && c && d
    }

    #[command]
    #[expect(clippy::unused_async, reason = "it sorts itself out")]
    async fn shake(&self) {}
}

#[tokio::test(start_paused = true)]
async fn what_a_method_is_allowed_is_allowed_to_what_is_made_of_it() {
    let sorter = SorterClient::from(spawn_module(Sorter).dispatcher());
    let filled = within(sorter.fill(1, 1, 1, 1, 1, 1, 1, 1)).await;
    assert_eq!(filled.expect("answered"), 8);
}

#[test]
fn a_driver_takes_the_messages() {
    let mut hidden = Driver::new(Hidden('x'));
    let answer = hidden.request(HiddenMessage::All { times: 2 }).answer();
    let answer = answer.expect("answered");
    assert!(matches!(answer, HiddenResponse::All(all) if all == ['x', 'x']));
    hidden.finish();
}
