//! Messages of one dispatcher are handled in the order accepted.

use spark_channel::{
    SparkGenericModuleDispatcher, SparkGenericModuleMessage, Stop, module, run_module_server,
    spawn_module,
};
use tokio::sync::mpsc;

use crate::support::{Gate, Log, Runner, job, queued, within};

mod support;

type Dispatcher = SparkGenericModuleDispatcher<String, String>;

/// Sends `messages` in turn, every second one as a command, without waiting for
/// the module; then opens the gate and waits for the answers.
async fn send_in_turn(dispatcher: &Dispatcher, gate: &Gate, messages: &[String]) {
    let mut requests = Vec::new();
    for pair in messages.chunks(2) {
        requests.push(queued(dispatcher.request(&*pair[0])));
        within(dispatcher.command(&*pair[1])).await.expect("room");
    }
    gate.open();
    for request in requests {
        within(request).await.expect("handled");
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn requests_and_commands_of_one_dispatcher_are_handled_in_turn() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let messages = numbered(60);

    send_in_turn(&module.dispatcher(), &gate, &messages).await;

    within(module.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines()[..60], messages);
}

#[tokio::test]
async fn the_same_order_holds_on_a_channel_of_ones_own() {
    let gate = Gate::closed();
    let (sender, receiver) = mpsc::channel(64);
    let dispatcher = Dispatcher::new(sender);
    let server = tokio::spawn(run_module_server(gate.module(), receiver));
    let messages = numbered(60);

    send_in_turn(&dispatcher, &gate, &messages).await;

    drop(dispatcher);
    within(server).await.expect("no panic");
    assert_eq!(gate.log.lines()[..60], messages);
}

#[tokio::test]
async fn messages_that_wait_for_room_are_handled_in_the_order_in_which_they_waited() {
    for capacity in [1, 2, 7] {
        let gate = Gate::closed();
        let module = module(gate.module()).capacity(capacity).spawn();
        let dispatcher = module.dispatcher();
        let messages = numbered(40);
        let (asked, told) = messages.split_at(20);

        let asked: Vec<_> = asked
            .iter()
            .map(|message| queued(dispatcher.request(&**message)))
            .collect();
        let told: Vec<_> = told
            .iter()
            .map(|message| queued(dispatcher.command(&**message)))
            .collect();
        gate.open();
        let everything = async {
            for request in asked {
                request.await.expect("handled");
            }
            for command in told {
                command.await.expect("accepted");
            }
        };
        // A place that was given to one of them waits until that one is polled: here
        // they are polled in the order in which they were given places.
        within(everything).await;

        within(module.shutdown(Stop::Drain)).await;
        assert_eq!(gate.log.lines()[..40], messages, "capacity {capacity}");
    }
}

#[tokio::test]
async fn a_newcomer_does_not_overtake_those_who_wait_for_room() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(1).spawn();
    let dispatcher = module.dispatcher();
    within(dispatcher.command("running")).await.expect("room");
    gate.entered().await;
    within(dispatcher.command("queued")).await.expect("room");
    let mut waiting = queued(dispatcher.command("waiting"));

    gate.let_pass(1);
    gate.entered().await;
    let newcomer = dispatcher.try_command("newcomer");

    assert!(newcomer.is_err(), "the free place is promised to another");
    assert!(waiting.is_woken());
    within(&mut waiting).await.expect("accepted");
    gate.open();
    within(module.shutdown(Stop::Drain)).await;
    assert_eq!(
        gate.log.lines(),
        ["running", "queued", "waiting", "stopped"]
    );
}

#[tokio::test]
async fn each_clone_has_an_order_of_its_own() {
    let log = Log::default();
    let module = module(Runner).capacity(3).spawn();
    let senders: Vec<_> = ["left", "right"]
        .into_iter()
        .map(|side| {
            let (dispatcher, log) = (module.dispatcher(), log.clone());
            tokio::spawn(async move {
                for number in 0..50 {
                    let log = log.clone();
                    let entry = job(async move {
                        log.push(format!("{side} {number:02}"));
                        Ok(0)
                    });
                    let sent = dispatcher.command(entry).await;
                    sent.expect("accepted");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();

    for sender in senders {
        within(sender).await.expect("sent all");
    }
    within(module.shutdown(Stop::Drain)).await;

    let (left, right): (Vec<_>, Vec<_>) = log
        .lines()
        .into_iter()
        .partition(|line| line.starts_with("left"));
    assert!(left.is_sorted() && right.is_sorted());
    assert_eq!((left.len(), right.len()), (50, 50));
}

#[tokio::test]
async fn what_is_sent_through_the_bare_sender_keeps_its_place_too() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();

    within(dispatcher.command("1")).await.expect("room");
    let bare = SparkGenericModuleMessage::Command("2".into());
    within(dispatcher.sender.send(bare)).await.expect("room");
    within(dispatcher.command("3")).await.expect("room");
    gate.open();

    within(module.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["1", "2", "3", "stopped"]);
}
