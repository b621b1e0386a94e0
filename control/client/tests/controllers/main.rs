//! The client against real controllers: a leader, followers, the hanging, the dead, and liars.

mod fixture;
mod security;

use std::time::{Duration, Instant};

use client::{Controllers, Next, Settings};
use fixture::{Controller, LONG, Role, not_the_leader, settings};
use proto::v1::{GetPoolReq, Pool, PoolSnapshot, WatchPoolReq};
use tonic::{Code, Status, Streaming};

pub(crate) async fn get_pool(controllers: &Controllers, within: Duration) -> Result<Pool, Status> {
    controllers
        .call(within, |mut client| async move {
            client.get_pool(GetPoolReq { pool_id: "web".to_owned() }).await
        })
        .await
}

async fn watch(
    controllers: &Controllers,
) -> Result<(Streaming<PoolSnapshot>, client::Peer), (client::Peer, Status)> {
    let (mut client, peer) = controllers.connect().await.expect("a connection");
    match client.watch_pool(WatchPoolReq::default()).await {
        Ok(stream) => Ok((stream.into_inner(), peer)),
        Err(status) => Err((peer, status)),
    }
}

fn follower_of(leader: &Controller) -> Role {
    Role::Follows(Some(leader.address.clone()))
}

#[tokio::test]
async fn a_call_follows_the_hint_to_the_leader_and_stays_there() {
    let leader = Controller::start(Role::Leads);
    let follower = Controller::start(follower_of(&leader));
    let controllers = Controllers::new(settings(&[&follower, &leader])).expect("settings");
    for _ in 0..3 {
        assert_eq!(get_pool(&controllers, LONG).await.expect("an answer").pool_id, "web");
    }
    assert_eq!((follower.calls(), leader.calls()), (1, 3));
    assert_eq!(controllers.address().as_str(), leader.address);
}

#[tokio::test]
async fn a_leader_outside_of_the_list_is_used_and_left_when_it_dies() {
    let mut leader = Controller::start(Role::Leads);
    let follower = Controller::start(follower_of(&leader));
    let controllers = Controllers::new(settings(&[&follower])).expect("settings");
    get_pool(&controllers, LONG).await.expect("an answer");
    assert_eq!(controllers.address().as_str(), leader.address);
    leader.dies();
    follower.becomes(Role::Leads);
    get_pool(&controllers, LONG).await.expect("the new leader's answer");
    assert_eq!(controllers.address().as_str(), follower.address);
}

#[tokio::test]
async fn dead_and_electing_controllers_are_passed_over() {
    let mut dead = Controller::start(Role::Leads);
    dead.dies();
    let electing = Controller::start(Role::Follows(None));
    let leader = Controller::start(Role::Leads);
    let controllers = Controllers::new(settings(&[&dead, &electing, &leader])).expect("settings");
    get_pool(&controllers, LONG).await.expect("an answer");
    assert_eq!((electing.calls(), leader.calls()), (1, 1));
}

#[tokio::test]
async fn a_hanging_controller_costs_its_share_of_the_time_and_no_more() {
    let hanging = Controller::start(Role::Hangs);
    let leader = Controller::start(Role::Leads);
    let controllers = Controllers::new(settings(&[&hanging, &leader])).expect("settings");
    get_pool(&controllers, Duration::from_secs(20)).await.expect("the leader's answer");
    assert_eq!((hanging.calls(), leader.calls()), (1, 1));
}

#[tokio::test]
async fn a_call_that_nobody_answers_ends_in_time_and_says_what_was_tried() {
    let hanging = Controller::start(Role::Hangs);
    let controllers = Controllers::new(settings(&[&hanging])).expect("settings");
    let status = get_pool(&controllers, Duration::from_millis(300)).await.expect_err("no answer");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains(&hanging.address), "{status}");

    let mut dead = Controller::start(Role::Leads);
    dead.dies();
    let controllers = Controllers::new(settings(&[&dead])).expect("settings");
    let status = get_pool(&controllers, Duration::from_millis(300)).await.expect_err("no answer");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains(&dead.address), "{status}");
}

#[tokio::test]
async fn controllers_that_name_each_other_in_a_circle_are_not_asked_in_a_hot_loop() {
    let first = Controller::start(Role::Leads);
    let second = Controller::start(follower_of(&first));
    first.becomes(follower_of(&second));
    let controllers = Controllers::new(settings(&[&first, &second])).expect("settings");
    let start = Instant::now();
    let status = get_pool(&controllers, Duration::from_secs(2)).await.expect_err("no leader");
    // The time may be over in a pause, or while one of them is asked.
    assert!(matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded), "{status}");
    assert!(start.elapsed() >= Duration::from_secs(2));
    // Rounds of at most 5 hops; pauses of 50, 100, 200, 400 ms ... on average between them.
    let calls = first.calls() + second.calls();
    assert!((3..120).contains(&calls), "{calls} calls in 2 s");
    second.becomes(Role::Leads);
    get_pool(&controllers, LONG).await.expect("the truth is found in the end");
}

#[tokio::test]
async fn a_controller_that_names_itself_is_not_believed() {
    let liar = Controller::start(Role::Leads);
    liar.becomes(follower_of(&liar));
    let leader = Controller::start(Role::Leads);
    let controllers = Controllers::new(settings(&[&liar, &leader])).expect("settings");
    get_pool(&controllers, LONG).await.expect("an answer");
    assert_eq!(liar.calls(), 1);
}

#[tokio::test]
async fn other_statuses_are_the_answer() {
    for code in [
        Code::NotFound,
        Code::InvalidArgument,
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::DeadlineExceeded,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::ResourceExhausted,
        Code::Internal,
        Code::Unimplemented,
    ] {
        let leader = Controller::start(Role::Answers(code));
        let controllers = Controllers::new(settings(&[&leader])).expect("settings");
        let status = get_pool(&controllers, LONG).await.expect_err("a status");
        assert_eq!((status.code(), status.message()), (code, "as told"));
        assert_eq!(leader.calls(), 1, "{code:?}");
    }
}

#[tokio::test]
async fn a_stream_moves_with_the_leader() {
    let first = Controller::start(Role::Leads);
    let second = Controller::start(follower_of(&first));
    let controllers = Controllers::new(settings(&[&first, &second])).expect("settings");
    let (mut stream, peer) = watch(&controllers).await.expect("a stream");
    assert_eq!(stream.message().await.expect("open").expect("a message").pool_id, "p");
    controllers.worked(&peer);

    // The leader loses its lease, and ends its streams as a follower.
    first.becomes(follower_of(&second));
    second.becomes(Role::Leads);
    first.end_streams(&not_the_leader(Some(&second.address))).await;
    let status = stream.message().await.expect_err("ended");
    assert_eq!(controllers.failed(&peer, &status), Next::Now);
    let (_stream, peer) = watch(&controllers).await.expect("a stream");
    assert_eq!(peer.address().as_str(), second.address);
}

#[tokio::test]
async fn a_stream_whose_leader_dies_goes_to_the_next_endpoint() {
    let mut first = Controller::start(Role::Leads);
    let second = Controller::start(Role::Leads);
    let controllers = Controllers::new(settings(&[&first, &second])).expect("settings");
    let (mut stream, peer) = watch(&controllers).await.expect("a stream");
    stream.message().await.expect("open").expect("a message");
    first.dies();
    let status = stream.message().await.expect_err("broken");
    assert_eq!(controllers.failed(&peer, &status), Next::Now);
    let (_stream, peer) = watch(&controllers).await.expect("a stream");
    assert_eq!(peer.address().as_str(), second.address);
}

#[tokio::test]
async fn what_one_user_learns_the_others_know() {
    let leader = Controller::start(Role::Leads);
    let follower = Controller::start(follower_of(&leader));
    let controllers = Controllers::new(settings(&[&follower, &leader])).expect("settings");
    let (peer, status) = watch(&controllers).await.expect_err("a follower");
    let (_, same_peer) = controllers.connect().await.expect("a connection");
    assert_eq!(peer, same_peer, "one connection for all");
    assert_eq!(controllers.failed(&peer, &status), Next::Now);
    // The second user of the old connection comes late, and does not chase the leader away.
    assert_eq!(controllers.failed(&same_peer, &not_the_leader(None)), Next::Now);
    get_pool(&controllers.clone(), LONG).await.expect("an answer");
    assert_eq!(follower.calls(), 1);
}

#[tokio::test]
async fn a_full_window_is_no_reason_to_leave_the_leader() {
    let leader = Controller::start(Role::Leads);
    let other = Controller::start(Role::Leads);
    let controllers = Controllers::new(settings(&[&leader, &other])).expect("settings");
    let (_, peer) = controllers.connect().await.expect("a connection");
    let full = Status::resource_exhausted("window full");
    assert_eq!(controllers.failed(&peer, &full), Next::AfterPause);
    assert_eq!(controllers.connect().await.expect("a connection").1, peer);
}

#[tokio::test]
async fn with_nobody_there_connecting_ends_with_the_last_ones_error() {
    let mut gone = [Controller::start(Role::Leads), Controller::start(Role::Leads)];
    gone.iter_mut().for_each(Controller::dies);
    let controllers = Controllers::new(settings(&[&gone[0], &gone[1]])).expect("settings");
    let error = controllers.connect().await.expect_err("nobody").to_string();
    assert!(error.starts_with(&format!("controller {}: ", gone[1].address)), "{error}");
}

#[tokio::test]
async fn a_peer_that_takes_connections_and_says_nothing_is_noticed() {
    // The kernel completes the handshake; nobody ever answers a ping.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", silent.local_addr().expect("an address"));
    let leader = Controller::start(Role::Leads);
    let controllers = Controllers::new(Settings {
        keep_alive_interval: Duration::from_millis(100),
        keep_alive_timeout: Duration::from_millis(100),
        ..Settings::new([address, leader.address.clone()])
    })
    .expect("settings");
    let opened = tokio::time::timeout(LONG, watch(&controllers)).await.expect("noticed");
    let (peer, status) = opened.expect_err("no answer");
    assert_eq!(controllers.failed(&peer, &status), Next::Now);
    watch(&controllers).await.expect("a stream");
}
