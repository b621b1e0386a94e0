//! The schedule and the verdicts, with time passed in.

use std::collections::BTreeMap;

use proto::v1::{Assignment, Health, ProbeKind, ProbeSettings};

use super::backend::SILENCE;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Moment {
    Duration::from_millis(ms)
}

fn fleet() -> Fleet {
    Fleet::new("checker-1".to_owned(), Rng::with_seed(7))
}

fn assignment(id: &str) -> Assignment {
    Assignment {
        backend_id: id.to_owned(),
        ip: "192.0.2.1".to_owned(),
        port: 80,
        settings: Some(ProbeSettings::default()),
        ..Assignment::default()
    }
}

fn target(assignment: Assignment) -> Target {
    Target::new(assignment, &BTreeMap::new())
}

fn targets(count: usize) -> Vec<Target> {
    (0..count).map(|n| target(assignment(&format!("b{n}")))).collect()
}

fn ready(id: &str) -> Target {
    let readiness_probe_url = "http://192.0.2.1/".to_owned();
    target(Assignment { readiness_probe_url, ..assignment(id) })
}

fn found(finding: Finding) -> Answer {
    Answer { finding, latency: ms(3), checked_at_ns: 42 }
}

fn fail() -> Finding {
    Finding::Fail("connection refused".to_owned())
}

/// Answers the next question of `role`, whenever it is due, and says when that was.
fn next(fleet: &mut Fleet, role: Role, finding: &Finding) -> (Moment, Option<HealthReport>) {
    loop {
        let now = fleet.next_due().expect("something is due");
        let job = fleet.take_due(now).expect("a job");
        let right = job.role == role;
        let finding = if right { finding.clone() } else { Finding::Pass };
        let report = fleet.answer(&job, found(finding), now);
        if right {
            return (now, report);
        }
    }
}

#[test]
fn a_new_list_is_spread_evenly_over_the_interval() {
    let mut fleet = fleet();
    fleet.assign(targets(750), SECOND);
    let mut starts = vec![0; 100];
    for _ in 0..750 {
        let at = fleet.next_due().expect("due");
        fleet.take_due(at).expect("a job");
        let since = at - SECOND;
        starts[usize::try_from(since.as_millis() / 10).expect("small")] += 1;
    }
    let most = starts.iter().max().expect("some");
    assert!(*most <= 10, "{most} probes within 10 ms of 1 s");
    assert_eq!(starts.iter().sum::<i32>(), 750);
}

#[test]
fn from_start_to_start_it_is_the_interval_and_a_jitter_of_up_to_a_fifth() {
    let mut fleet = fleet();
    fleet.assign(targets(1), Moment::ZERO);
    let mut last: Option<Moment> = None;
    let mut longest = Duration::ZERO;
    for _ in 0..1000 {
        let planned = fleet.next_due().expect("due");
        // Every start is late, and the answer takes a while: the plan does not move.
        let job = fleet.take_due(planned + ms(70)).expect("a job");
        assert_eq!(job.planned, planned);
        fleet.answer(&job, found(Finding::Pass), planned + ms(400));
        if let Some(last) = last {
            let gap = planned - last;
            assert!((ms(1000)..=ms(1200)).contains(&gap), "{gap:?}");
            longest = longest.max(gap);
        }
        last = Some(planned);
    }
    assert!(longest > ms(1150), "{longest:?}: jitter is used");
}

#[test]
fn nothing_is_started_before_its_time() {
    let mut fleet = fleet();
    assert!(fleet.take_due(SECOND).is_none());
    fleet.assign(targets(1), SECOND);
    let due = fleet.next_due().expect("due");
    assert!(fleet.take_due(due - ms(1)).is_none());
    assert!(fleet.take_due(due).is_some());
}

#[test]
fn a_question_is_asked_once_at_a_time_and_again_as_soon_as_it_is_answered() {
    let mut fleet = fleet();
    fleet.assign(targets(1), Moment::ZERO);
    let first = fleet.next_due().expect("due");
    let job = fleet.take_due(first).expect("a job");
    let second = fleet.next_due().expect("due");
    assert!(fleet.take_due(second).is_none(), "still asking");
    assert_eq!(fleet.next_due(), None);
    let now = second + ms(5);
    fleet.answer(&job, found(Finding::Timeout(SECOND)), now);
    assert_eq!(fleet.next_due(), Some(second), "late already");
    let job = fleet.take_due(now).expect("a job");
    assert_eq!(job.planned, second);
}

#[test]
fn three_failures_and_two_passes_make_a_report_each() {
    let mut fleet = fleet();
    fleet.assign(targets(1), Moment::ZERO);
    let mut reports = Vec::new();
    for finding in [Finding::Pass, Finding::Pass, fail(), Finding::Timeout(SECOND), fail(), fail()]
    {
        reports.push(next(&mut fleet, Role::Liveness, &finding).1);
    }
    let said: Vec<Option<Health>> =
        reports.iter().map(|report| report.as_ref().map(HealthReport::state)).collect();
    let (up, down) = (Some(Health::Healthy), Some(Health::Unhealthy));
    assert_eq!(said, [None, up, None, None, down, None]);
    let report = reports.swap_remove(4).expect("the verdict");
    assert_eq!(
        report,
        HealthReport {
            backend_id: "b0".to_owned(),
            state: Health::Unhealthy.into(),
            checked_at_ns: 42,
            consecutive_pass: 0,
            consecutive_fail: 3,
            probe_latency_us: "3000".to_owned(),
            checker_id: "checker-1".to_owned(),
            readiness: Health::Unknown.into(),
            detail: "liveness: connection refused".to_owned(),
        }
    );
}

#[test]
fn readiness_is_a_question_of_its_own() {
    let mut fleet = fleet();
    fleet.assign(vec![ready("b")], Moment::ZERO);
    // Each pass of the one role is a pass of the other too, as `next` answers both.
    next(&mut fleet, Role::Readiness, &Finding::Pass);
    next(&mut fleet, Role::Readiness, &Finding::Pass);
    next(&mut fleet, Role::Liveness, &Finding::Pass);
    next(&mut fleet, Role::Liveness, &Finding::Pass);
    let mut last = None;
    for _ in 0..3 {
        last = next(&mut fleet, Role::Readiness, &Finding::Fail("status 503".to_owned())).1;
    }
    let report = last.expect("the verdict");
    assert_eq!((report.state(), report.readiness()), (Health::Healthy, Health::Unhealthy));
    assert_eq!(report.detail, "readiness: status 503");
}

#[test]
fn a_probe_that_could_not_be_made_is_no_vote() {
    let mut fleet = fleet();
    fleet.assign(targets(1), Moment::ZERO);
    next(&mut fleet, Role::Liveness, &Finding::Pass);
    next(&mut fleet, Role::Liveness, &Finding::Pass);
    let mut now = Moment::ZERO;
    for _ in 0..10 {
        let none = Finding::NotProbed("too many open files".to_owned());
        let (at, report) = next(&mut fleet, Role::Liveness, &none);
        assert_eq!(report, None);
        now = at;
    }
    let [report] = fleet.overdue(now).try_into().expect("one");
    assert_eq!(report.state(), Health::Healthy);
    assert_eq!(report.detail, "liveness: not probed: too many open files");
}

#[test]
fn after_a_silence_the_verdict_is_unknown_and_has_to_be_earned_again() {
    let mut fleet = fleet();
    fleet.assign(targets(1), Moment::ZERO);
    next(&mut fleet, Role::Liveness, &Finding::Pass);
    let (last, _) = next(&mut fleet, Role::Liveness, &Finding::Pass);
    let none = Finding::NotProbed("no program".to_owned());
    let mut now = last;
    while now <= last + SILENCE {
        assert_eq!(fleet.verdicts(now), [1, 0, 0], "{:?} after the last probe", now - last);
        now = next(&mut fleet, Role::Liveness, &none).0;
    }
    assert_eq!(fleet.verdicts(now), [0, 0, 1]);
    let [report] = fleet.overdue(now).try_into().expect("one");
    assert_eq!(report.state(), Health::Unknown);
    assert_eq!(next(&mut fleet, Role::Liveness, &Finding::Pass).1, None);
    let report = next(&mut fleet, Role::Liveness, &Finding::Pass).1.expect("a verdict");
    assert_eq!(report.state(), Health::Healthy);
}

#[test]
fn what_cannot_be_probed_is_reported_as_unknown_with_its_reason() {
    let mut fleet = fleet();
    let mut strange = assignment("b");
    strange.settings = Some(ProbeSettings {
        liveness: ProbeKind::Command.into(),
        command: "missing".to_owned(),
        ..ProbeSettings::default()
    });
    fleet.assign(vec![target(strange)], Moment::ZERO);
    assert_eq!((fleet.next_due(), fleet.sizes()), (None, (1, 1)));
    assert!(fleet.overdue(HEARTBEAT - ms(1)).is_empty());
    let [report] = fleet.overdue(HEARTBEAT).try_into().expect("one");
    assert_eq!(report.state(), Health::Unknown);
    assert!(report.detail.contains("\"missing\""), "{}", report.detail);
}

#[test]
fn every_backend_is_repeated_before_the_controller_forgets() {
    let mut fleet = fleet();
    fleet.assign(targets(3), Moment::ZERO);
    let mut now = Moment::ZERO;
    let mut last: BTreeMap<String, Moment> = BTreeMap::new();
    while now < Duration::from_secs(60) {
        while let Some(job) = fleet.take_due(now) {
            let report = fleet.answer(&job, found(Finding::Pass), now);
            last.extend(report.map(|report| (report.backend_id, now)));
        }
        last.extend(fleet.overdue(now).into_iter().map(|report| (report.backend_id, now)));
        for (id, at) in &last {
            assert!(now - *at <= Duration::from_secs(5), "{id}: {:?}", now - *at);
        }
        now += ms(250);
    }
    assert_eq!(last.len(), 3);
}

#[test]
fn the_same_list_again_disturbs_nothing() {
    let mut fleet = fleet();
    fleet.assign(targets(20), Moment::ZERO);
    let job = fleet.take_due(SECOND).expect("a job");
    let schedule = fleet.due.clone();
    fleet.assign(targets(20), SECOND);
    assert_eq!(fleet.due, schedule);
    next(&mut fleet, Role::Liveness, &Finding::Pass);
    fleet.answer(&job, found(Finding::Pass), SECOND);
    assert!(fleet.backends.contains_key("b0"));
}

#[test]
fn what_is_not_assigned_any_more_is_forgotten_with_its_schedule() {
    let mut fleet = fleet();
    fleet.assign(targets(20), Moment::ZERO);
    let job = fleet.take_due(SECOND).expect("a job");
    fleet.assign(Vec::new(), SECOND);
    assert_eq!((fleet.sizes(), fleet.due.len()), ((0, 0), 0));
    assert_eq!(fleet.answer(&job, found(Finding::Pass), SECOND), None);
    assert!(fleet.overdue(Duration::from_secs(100)).is_empty());
}

#[test]
fn an_answer_about_the_old_address_says_nothing_about_the_new_one() {
    let mut fleet = fleet();
    fleet.assign(targets(1), Moment::ZERO);
    next(&mut fleet, Role::Liveness, &Finding::Pass);
    let due = fleet.next_due().expect("due");
    let job = fleet.take_due(due).expect("a job");
    let moved = Assignment { ip: "192.0.2.2".to_owned(), ..assignment("b0") };
    fleet.assign(vec![target(moved)], due);
    assert_eq!(fleet.answer(&job, found(Finding::Pass), due), None);
    assert_eq!(fleet.verdicts(due), [0, 0, 1]);
    assert_eq!(fleet.due.len(), 1);
}

#[test]
fn a_new_pace_is_taken_up_at_once_and_keeps_the_verdict() {
    let mut fleet = fleet();
    let every = |interval_ms: u32| {
        let settings = Some(ProbeSettings { interval_ms, ..ProbeSettings::default() });
        vec![target(Assignment { settings, ..assignment("b") })]
    };
    fleet.assign(every(60_000), Moment::ZERO);
    next(&mut fleet, Role::Liveness, &Finding::Pass);
    let (now, _) = next(&mut fleet, Role::Liveness, &Finding::Pass);
    fleet.assign(every(1_000), now);
    assert!(fleet.next_due().expect("due") <= now + SECOND);
    assert_eq!((fleet.due.len(), fleet.verdicts(now)), (1, [1, 0, 0]));
}

#[test]
fn after_a_stall_nothing_is_made_up_for() {
    let mut fleet = fleet();
    fleet.assign(targets(100), Moment::ZERO);
    let now = Duration::from_secs(30);
    assert!(fleet.take_due(now).is_none(), "not a hundred at once");
    assert_eq!((fleet.respread, fleet.due.len()), (100, 100));
    let due: Vec<Moment> = fleet.due.keys().map(|(at, _)| *at).collect();
    assert!(due.iter().all(|at| (now..now + SECOND).contains(at)));
    let early = due.iter().filter(|at| **at < now + ms(500)).count();
    assert!((25..75).contains(&early), "{early} of 100 in the first half");
}

#[test]
fn a_controller_that_knows_nothing_hears_what_is_known_and_no_more() {
    let mut fleet = fleet();
    fleet.assign(targets(2), Moment::ZERO);
    assert!(fleet.everything(SECOND).is_empty(), "nothing is known yet");
    let mut now = Moment::ZERO;
    for _ in 0..4 {
        now = next(&mut fleet, Role::Liveness, &Finding::Pass).0;
    }
    assert_eq!(fleet.everything(now).len(), 2);
    // What was said has to be taken back, when nothing is known any more.
    let later = now + SILENCE + SECOND;
    let states: Vec<Health> = fleet.everything(later).iter().map(HealthReport::state).collect();
    assert_eq!(states, [Health::Unknown, Health::Unknown]);
}

#[test]
fn whatever_happens_each_question_has_one_place_at_most() {
    let mut random = Rng::with_seed(11);
    let mut fleet = fleet();
    let mut now = Moment::ZERO;
    let mut jobs: Vec<Job> = Vec::new();
    for _ in 0..20_000 {
        now += ms(random.u64(0..40));
        match random.u32(0..100) {
            0 => {
                let ids = (0..random.u32(0..30)).map(|n| match random.bool() {
                    true => ready(&format!("b{n}")),
                    false => target(assignment(&format!("b{n}"))),
                });
                let targets = ids.collect();
                fleet.assign(targets, now);
            }
            1..50 => jobs.extend(fleet.take_due(now)),
            _ if jobs.is_empty() => {}
            _ => {
                let job = jobs.swap_remove(random.usize(..jobs.len()));
                let finding = if random.bool() { Finding::Pass } else { fail() };
                fleet.answer(&job, found(finding), now);
            }
        }
        let mut places = 0;
        for (id, backend) in &fleet.backends {
            let both = [
                (Role::Liveness, Some(&backend.liveness)),
                (Role::Readiness, backend.readiness.as_ref()),
            ];
            for (role, question) in both {
                let Some(question) = question else { continue };
                // It is scheduled, or under way and will be scheduled with its answer.
                assert!(
                    question.due.is_some()
                        || (question.asking.is_some() && question.waiting.is_some())
                );
                if let Some(due) = question.due {
                    assert_eq!(fleet.due.get(&due), Some(&(id.clone(), role)));
                    places += 1;
                }
            }
        }
        assert_eq!(places, fleet.due.len());
    }
}
