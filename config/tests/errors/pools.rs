//! `[[pool]]` and `[[pool.backend]]`.

use super::{check, check_file};

#[test]
fn table_size_is_a_prime() {
    check(
        "table_size = 65537",
        "table_size = 65536",
        "weir.toml:21: pool \"web\": table_size = 65536 is not prime (expected a prime; \
         nearest are 65521 and 65537)",
    );
    check(
        "table_size = 65537",
        "table_size = 16777213_0",
        "weir.toml:21: pool \"web\": table_size = 16777213_0 is out of range (expected 2 to \
         16777213, a prime)",
    );
    check(
        "table_size = 65537",
        "table_size = 1",
        "weir.toml:21: pool \"web\": table_size = 1 is out of range (expected 2 to 16777213, \
         a prime)",
    );
}

#[test]
fn a_table_has_a_slot_for_each_backend() {
    check(
        "table_size = 65537\nforwarding = \"ipip\"\nhash_secret = \"000102030405060708090a0b0c0d0e0f\"\n",
        "table_size = 2\nhash_secret = \"000102030405060708090a0b0c0d0e0f\"\nbackend = [\n  { id = \"a\", address = \"192.0.2.12\" },\n  { id = \"b\", address = \"192.0.2.13\" },\n  { id = \"c\", address = \"192.0.2.14\" },\n]\n\n[[pool]]\nid = \"other\"\nhash_secret = \"000102030405060708090a0b0c0d0e00\"\n",
        "weir.toml:21: pool \"web\": table_size = 2 is less than one slot for each of 3 \
         backends with a weight (expected a prime of at least 100 times as many)",
    );
}

#[test]
fn hash_secret_is_never_shown() {
    check(
        "000102030405060708090a0b0c0d0e0f",
        "deadbeef",
        "weir.toml:23: pool \"web\": hash_secret = \"...\" is not 32 hex digits (expected 32 \
         hex digits in quotes)",
    );
}

#[test]
fn ids_are_unique() {
    check(
        "weight = 100\n",
        "weight = 100\n\n[[pool.backend]]\nid = \"host-1\"\naddress = \"192.0.2.12\"\n",
        "weir.toml:31: pool \"web\": backend \"host-1\": id = \"host-1\" is already the id \
         of the backend at line 26 (expected an id that is unique in its pool)",
    );
    check(
        "[[vip]]",
        "[[pool]]\nid = \"web\"\nhash_secret = \"000102030405060708090a0b0c0d0e00\"\n\n[[vip]]",
        "weir.toml:31: pool \"web\": id = \"web\" is already the id of the pool at line 20 \
         (expected a unique id)",
    );
}

#[test]
fn backends_are_other_machines() {
    check(
        "address = \"192.0.2.11\"",
        "address = \"192.0.2.2\"",
        "weir.toml:27: pool \"web\": backend \"host-1\": address = \"192.0.2.2\" is the \
         node's own, of port \"uplink\" (expected another machine's)",
    );
    check(
        "address = \"192.0.2.11\"",
        "address = \"203.0.113.1\"",
        "weir.toml:27: pool \"web\": backend \"host-1\": address = \"203.0.113.1\" is inside \
         the vip 203.0.113.1/32 at line 31 (expected an address that no vip covers)",
    );
    check(
        "address = \"192.0.2.11\"",
        "address = \"224.0.0.1\"",
        "weir.toml:27: pool \"web\": backend \"host-1\": address = \"224.0.0.1\" is a \
         multicast address (expected the address of one machine)",
    );
    check(
        "address = \"192.0.2.11\"",
        "address = \"host-1.example\"",
        "weir.toml:27: pool \"web\": backend \"host-1\": address = \"host-1.example\" is not \
         an IP address (expected one such as \"192.0.2.11\")",
    );
}

#[test]
fn l2dsr_backends_are_on_link() {
    check(
        "forwarding = \"ipip\"\nhash_secret = \"000102030405060708090a0b0c0d0e0f\"\n\n[[pool.backend]]\nid = \"host-1\"\naddress = \"192.0.2.11\"",
        "forwarding = \"l2dsr\"\nhash_secret = \"000102030405060708090a0b0c0d0e0f\"\n\n[[pool.backend]]\nid = \"host-1\"\naddress = \"192.0.3.11\"",
        "weir.toml:27: pool \"web\": backend \"host-1\": address = \"192.0.3.11\" is not \
         on-link (expected an address in the prefix of a port, as l2dsr sends frames and \
         does not route)",
    );
}

#[test]
fn a_backend_before_its_pool_is_refused() {
    check_file(
        "[[pool.backend]]\nid = \"a\"\n",
        "weir.toml:1: port is missing (expected tables, each written [[port]])\n\
         weir.toml:1: pool is a table (expected tables, each written [[pool]])",
    );
}

/// The good file for QUIC: the pool as `quic` changes it, the backend with `ids`, the VIP with
/// `affinity`.
fn quic(tables: &str, ids: &str, affinity: &str) -> String {
    super::GOOD
        .replace("\nweight = 100\n", &format!("\n{ids}\n\n{tables}\n"))
        .replace("protocol = \"tcp\"", &format!("protocol = \"udp\"\n{affinity}"))
}

const QUIC: &str = "[[pool.quic]]\nconfig_id = 0\nserver_id_length = 1\nnonce_length = 5\n\
                    key = \"0123456789abcdef0123456789abcdef\"";

#[test]
fn quic_affinity_needs_a_pool_that_reads_connection_ids() {
    let loaded = config::Config::parse(
        &quic(QUIC, "quic_server_ids = [\"0a\"]", "affinity = \"quic\""),
        "weir.toml",
    );
    assert_eq!(loaded.unwrap().warnings, []);
    check_file(
        &quic("", "", "affinity = \"quic\""),
        "weir.toml:36: vip 203.0.113.1:80/udp: affinity = \"quic\" cannot work: pool \"web\" at \
         line 19 has no [[pool.quic]] (expected one, and quic_server_ids of its backends)",
    );
    check_file(
        &quic(QUIC, "quic_server_ids = [\"0a\"]", "affinity = \"quic\"")
            .replace("\"udp\"", "\"any\""),
        "weir.toml:40: vip 203.0.113.1:80/any: affinity = \"quic\" is for UDP, and protocol is \
         \"any\" (expected protocol = \"udp\")",
    );
}

#[test]
fn quic_configurations_are_in_their_bounds_and_keys_are_not_shown() {
    let ids = "quic_server_ids = [\"0a\"]";
    let affinity = "affinity = \"quic\"";
    check_file(
        &quic(&QUIC.replace("= 5", "= 18"), ids, affinity).replace("length = 1\n", "length = 2\n"),
        "weir.toml:33: pool \"web\": quic #1: nonce_length = 18 does not fit beside a server id \
         of 2 octets (expected at most 17: both together 19)",
    );
    check_file(
        &quic(&QUIC.replace("abcdef\"", "abcde\""), ids, affinity),
        "weir.toml:34: pool \"web\": quic #1: key = \"...\" is not 32 hex digits (expected 32 hex \
         digits in quotes)",
    );
    check_file(
        &quic(&QUIC.replace("config_id = 0", "config_id = 7"), ids, affinity),
        "weir.toml:31: pool \"web\": quic #1: config_id = 7 is out of range (expected 0 to 6, \
         unique in its pool)",
    );
    check_file(
        &quic(&format!("{QUIC}\n{QUIC}"), ids, affinity),
        "weir.toml:36: pool \"web\": quic #2: config_id = 0 is also that of the table at line 31 \
         (expected a number of its own for each)",
    );
}

#[test]
fn server_ids_are_one_backends_and_as_long_as_configured() {
    let affinity = "affinity = \"quic\"";
    check_file(
        &quic(QUIC, "quic_server_ids = [\"0a\", \"0A\"]", affinity),
        "weir.toml:28: pool \"web\": backend \"host-1\": quic_server_ids: \"0a\" is also the \
         server id of line 28 (expected ids that one backend has)",
    );
    check_file(
        &quic(QUIC, "quic_server_ids = [\"0a\", \"0a0b\"]", affinity),
        "weir.toml:28: pool \"web\": backend \"host-1\": quic_server_ids: \"0a0b\" has 2 octets \
         (expected the server_id_length of a [[pool.quic]] of this pool)",
    );
    let loaded = config::Config::parse(&quic(QUIC, "", affinity), "weir.toml").unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "weir.toml:25: pool \"web\": backend \"host-1\": quic_server_ids: none has the length 1, \
             so connection ids of that [[pool.quic]] never name this backend"
        ]
    );
}

#[test]
fn a_gue_variant_needs_gue_and_a_second_chance_needs_variant_0_and_maglev() {
    let old = "forwarding = \"ipip\"";
    check(
        old,
        "gue_variant = 0",
        "weir.toml:22: pool \"web\": gue_variant = 0 is without forwarding = \"gue\" (expected \
         forwarding = \"gue\" beside it)",
    );
    check(
        old,
        "forwarding = \"gue\"\nsecond_chance = true",
        "weir.toml:23: pool \"web\": second_chance = true is without gue_variant = 0 (expected \
         gue_variant = 0 beside it: the header of variant 1 names nobody)",
    );
    check(
        old,
        "forwarding = \"gue\"\ngue_variant = 0\nsecond_chance = true\nscheduler = \"ring\"",
        "weir.toml:24: pool \"web\": second_chance = true is without scheduler = \"maglev\" \
         (expected scheduler = \"maglev\" beside it: only its slots have owners to name)",
    );
    check(
        old,
        "forwarding = \"gue\"\ngue_variant = 2",
        "weir.toml:23: pool \"web\": gue_variant = 2 is out of range (expected 0 to 1, 0 with \
         `forwarding = \"gue\"` only)",
    );
    let good =
        super::GOOD.replace(old, "forwarding = \"gue\"\ngue_variant = 0\nsecond_chance = true");
    let pool = &config::Config::parse(&good, "weir.toml").unwrap().config.pools[0];
    assert_eq!((pool.gue_variant, pool.second_chance), (0, true));
}
