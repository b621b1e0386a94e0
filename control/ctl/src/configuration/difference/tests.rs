//! The laws of the steps, against a model of what a controller makes of them.

use super::super::{Vip, arbitrary, read};
use super::*;
use proptest::prelude::*;

/// What a controller would make of a step; refuses what it would refuse.
fn apply(model: &mut Configuration, step: &Step) {
    match step {
        Step::CreatePool { pool, settings, secret } => {
            let settings = (**settings).clone();
            let new = Pool { settings, secret: secret.clone(), backends: Default::default() };
            assert!(model.pools.insert(pool.clone(), new).is_none());
        }
        Step::UpdatePool { pool, settings, secret, .. } => {
            let pool = model.pools.get_mut(pool).unwrap();
            pool.settings = (**settings).clone();
            if secret.is_some() {
                pool.secret.clone_from(secret);
            }
        }
        Step::Register { pool, backend, wanted } => {
            let new = Backend { service: Service::Unsaid, ..(**wanted).clone() };
            let pool = model.pools.get_mut(pool).unwrap();
            let old = pool.backends.insert(backend.clone(), new);
            assert!(old.is_none_or(|old| old.service == Service::Evicted));
        }
        Step::UpdateBackend { backend, wanted, .. } => {
            let one = get(model, backend);
            *one = Backend { service: one.service, ..(**wanted).clone() };
        }
        Step::UndoDrain { backend } => {
            let one = get(model, backend);
            assert!(matches!(one.service, Service::Drain | Service::Leaving));
            one.service = Service::Unsaid;
        }
        Step::Drain { backend } => get(model, backend).service = Service::Drain,
        Step::Bind { vip, pool, idle, affinity, mss_clamp, from } => {
            assert!(model.pools.contains_key(pool), "a VIP's pool comes first");
            assert!(!model.vips.keys().any(|other| other.ties_with(*vip)), "overlaps");
            let (pool, idle) = (pool.clone(), *idle);
            let new = Vip { pool, idle, affinity: *affinity, mss_clamp: *mss_clamp };
            let old = model.vips.insert(*vip, new);
            assert_eq!(old.map(|old| old.pool), *from);
        }
        Step::Unbind { vip } => assert!(model.vips.remove(vip).is_some()),
        Step::Deregister { backend } => {
            get(model, backend);
            for pool in model.pools.values_mut() {
                pool.backends.remove(backend);
            }
        }
        Step::DeletePool { pool, .. } => {
            assert!(model.vips.values().all(|vip| vip.pool != *pool), "in use");
            assert!(model.pools.remove(pool).unwrap().backends.is_empty(), "in use");
        }
    }
}

fn get<'m>(model: &'m mut Configuration, id: &str) -> &'m mut Backend {
    model.pools.values_mut().find_map(|pool| pool.backends.get_mut(id)).unwrap()
}

/// A wanted "as it is" is what is there; a secret that is not given stays.
fn resolved(wanted: &Configuration, after: &Configuration) -> Configuration {
    let mut wanted = wanted.clone();
    for (id, pool) in &mut wanted.pools {
        let now = &after.pools[id];
        pool.secret = pool.secret.clone().or_else(|| now.secret.clone());
        for (id, backend) in &mut pool.backends {
            if backend.service == Service::Unsaid {
                backend.service = now.backends[id].service;
            }
        }
    }
    wanted
}

proptest! {
    #[test]
    fn pruned_steps_lead_from_any_to_any(
        current in arbitrary::configuration(),
        wanted in arbitrary::configuration(),
    ) {
        let mut model = current.clone();
        for step in steps(&current, &wanted, true).unwrap() {
            apply(&mut model, &step);
        }
        prop_assert_eq!(&model, &resolved(&wanted, &model));
        prop_assert_eq!(steps(&model, &wanted, true), Ok(Vec::new()), "again: nothing to do");
    }

    #[test]
    fn nothing_is_removed_without_pruning(
        current in arbitrary::configuration(),
        wanted in arbitrary::configuration(),
    ) {
        let mut model = current.clone();
        for step in steps(&current, &wanted, false).unwrap() {
            apply(&mut model, &step);
        }
        prop_assert!(current.pools.keys().all(|pool| model.pools.contains_key(pool)));
        prop_assert!(current.vips.keys().all(|vip| model.vips.contains_key(vip)));
        for (pool, id, _) in backends(&current) {
            prop_assert!(model.pools[pool].backends.contains_key(id));
        }
        prop_assert_eq!(steps(&model, &wanted, false), Ok(Vec::new()), "again: nothing to do");
    }

    #[test]
    fn there_is_no_step_from_one_to_itself(one in arbitrary::configuration()) {
        prop_assert_eq!(steps(&one, &one, true), Ok(Vec::new()));
    }
}

/// A pool with one backend, `x`.
fn file(state: &str, pool: &str) -> Configuration {
    let text = format!(
        "[[pool]]\nid = \"{pool}\"\n[[pool.backend]]\nid = \"x\"\naddress = \"192.0.2.1\"\n\
         port = 80\n{state}"
    );
    read(&text, "f").unwrap()
}

/// A pool `a` with one VIP.
fn vip(port: &str) -> Configuration {
    let text = format!(
        "[[pool]]\nid = \"a\"\n[[vip]]\naddress = \"192.0.2.1\"\nport = {port}\n\
         protocol = \"tcp\"\npool = \"a\"\n"
    );
    read(&text, "f").unwrap()
}

fn lines(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

#[test]
fn a_backend_cannot_move_to_another_pool() {
    let problems = steps(&file("", "a"), &file("", "b"), true).unwrap_err();
    assert!(problems[0].contains("cannot move to b"), "{problems:?}");
}

#[test]
fn where_a_backend_is_in_its_life_and_what_a_file_says_of_it() {
    const ANEW: &str = "register backend x in pool a: 192.0.2.1 port 80, weight 100";
    const BACK: &str = "take the drain of x back";
    const DRAIN: &str = "drain backend x";
    let table: &[(Service, &str, &[&str])] = &[
        (Service::Unsaid, "", &[]),
        (Service::Unsaid, "active", &[]),
        (Service::Unsaid, "drain", &[DRAIN]),
        (Service::Drain, "", &[]),
        (Service::Drain, "active", &[BACK]),
        (Service::Drain, "drain", &[]),
        (Service::Evicted, "", &[]),
        (Service::Evicted, "active", &[ANEW]),
        (Service::Evicted, "drain", &[]),
        (Service::Leaving, "", &[BACK]),
        (Service::Leaving, "active", &[BACK]),
        (Service::Leaving, "drain", &[BACK, DRAIN]),
    ];
    for (service, state, expected) in table {
        let mut current = file("", "a");
        get(&mut current, "x").service = *service;
        let state_key = match *state {
            "" => String::new(),
            word => format!("state = \"{word}\"\n"),
        };
        let steps = steps(&current, &file(&state_key, "a"), false).unwrap();
        assert_eq!(lines(&steps), *expected, "{service:?}, {state:?}");
    }
}

#[test]
fn a_vip_whose_range_changes_goes_before_the_new_one_comes() {
    let (old, new) = (vip("\"1-5\""), vip("\"1-9\""));
    let problems = steps(&old, &new, false).unwrap_err();
    assert!(problems[0].contains("overlaps 192.0.2.1:1-5/tcp"), "{problems:?}");
    assert_eq!(
        lines(&steps(&old, &new, true).unwrap()),
        ["unbind VIP 192.0.2.1:1-5/tcp", "bind VIP 192.0.2.1:1-9/tcp to pool a"]
    );
    assert_eq!(
        lines(&steps(&vip("80"), &vip("81"), true).unwrap()),
        ["bind VIP 192.0.2.1:81/tcp to pool a", "unbind VIP 192.0.2.1:80/tcp"],
        "else the new one comes first"
    );
}

#[test]
fn a_step_says_what_changes_and_no_secret() {
    let current = file("", "a");
    let mut wanted = file("weight = 5\nlabels = { az = \"b\" }\n", "a");
    let pool = wanted.pools.get_mut("a").unwrap();
    pool.settings.drain_seconds = 5;
    pool.secret = Some("000102030405060708090a0b0c0d0e0f".parse().unwrap());
    let steps = steps(&current, &wanted, false).unwrap();
    assert_eq!(
        lines(&steps),
        [
            "update pool a: drain_seconds 60 -> 5, hash_secret",
            "update backend x: weight 100 -> 5, label az=b"
        ]
    );
    assert!(!format!("{steps:?}").contains("0001"));
}
