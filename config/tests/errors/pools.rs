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
