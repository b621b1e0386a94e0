//! `[node]`, `[dpdk]`, `[encapsulation]`.

use super::check;

#[test]
fn admin_reachable_from_the_network_is_refused() {
    check(
        "127.0.0.1:9180",
        "0.0.0.0:9180",
        "weir.toml:3: [node]: admin = \"0.0.0.0:9180\" is reachable from the network, and \
         there is no admin_token_file (expected a token, or a loopback address such as \
         \"127.0.0.1:9180\")",
    );
    check(
        "127.0.0.1:9180",
        "[2001:db8::1]:9180",
        "weir.toml:3: [node]: admin = \"[2001:db8::1]:9180\" is reachable from the network, \
         and there is no admin_token_file (expected a token, or a loopback address such as \
         \"127.0.0.1:9180\")",
    );
    check(
        "127.0.0.1:9180",
        "127.0.0.1",
        "weir.toml:3: [node]: admin = \"127.0.0.1\" is not an IP address with port (expected \
         one such as \"127.0.0.1:9180\")",
    );
    check(
        "127.0.0.1:9180",
        "localhost:9180",
        "weir.toml:3: [node]: admin = \"localhost:9180\" is not an IP address with port \
         (expected one such as \"127.0.0.1:9180\")",
    );
}

#[test]
fn names_are_plain() {
    check(
        "\"lb-a1\"",
        "\"lb a1\"",
        "weir.toml:2: [node]: name = \"lb a1\" is not a plain name (expected 1 to 63 \
         letters, digits and _ - ., a letter or digit first)",
    );
    check(
        "\"lb-a1\"",
        "\"\"",
        "weir.toml:2: [node]: name = \"\" has 0 characters (expected 1 to 63 letters, digits \
         and _ - ., a letter or digit first)",
    );
    check(
        "\"lb-a1\"",
        "\"-a1\"",
        "weir.toml:2: [node]: name = \"-a1\" is not a plain name (expected 1 to 63 letters, \
         digits and _ - ., a letter or digit first)",
    );
    check(
        "[dpdk]\n",
        "[dpdk]\nfile_prefix = \"../weir\"\n",
        "weir.toml:6: [dpdk]: file_prefix = \"../weir\" is not a plain name (expected 1 to \
         63 letters, digits and _ - ., a letter or digit first)",
    );
    check(
        "name = \"uplink\"",
        "name = \"up.link\"",
        "weir.toml:10: port \"up.link\": name = \"up.link\" is not a plain name (expected 1 \
         to 63 letters, digits and _ -, a letter or digit first)",
    );
    check(
        "\"lb-a1\"",
        "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
        "weir.toml:2: [node]: name = \
         \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx... has 64 characters \
         (expected 1 to 63 letters, digits and _ - ., a letter or digit first)",
    );
}

#[test]
fn state_dir_is_an_absolute_path() {
    check(
        "[node]\n",
        "[node]\nstate_dir = \"var\"\n",
        "weir.toml:2: [node]: state_dir = \"var\" is not an absolute path (expected a path \
         that starts with \"/\")",
    );
    check(
        "[node]\n",
        "[node]\nstate_dir = \"/a\\u0000b\"\n",
        "weir.toml:2: [node]: state_dir = \"/a\\u0000b\" holds a control character (expected \
         a path)",
    );
}

#[test]
fn worker_cores_are_there_once_and_not_none() {
    check(
        "worker_cores = [1, 2]",
        "worker_cores = [1, 2, 1]",
        "weir.toml:7: [dpdk]: worker_cores: 1 is there twice (expected every core once; a \
         core has one worker)",
    );
    check(
        "worker_cores = [1, 2]",
        "worker_cores = []",
        "weir.toml:7: [dpdk]: worker_cores = [] names 0 cores (expected 1 to 128 cores)",
    );
}

#[test]
fn eal_args_can_become_c_strings() {
    check(
        "[dpdk]\n",
        "[dpdk]\neal_args = [\"a\\u0000\", \"\"]\n",
        "weir.toml:6: [dpdk]: eal_args: \"a\\u0000\" holds a NUL (expected an EAL argument)\n\
         weir.toml:6: [dpdk]: eal_args: \"\" is empty (expected an EAL argument)",
    );
}

#[test]
fn encapsulation_sources_are_unicast() {
    check(
        "source_entropy_v4 = \"172.16.0.0/16\"",
        "source_v4 = \"224.0.0.1\"",
        "weir.toml:17: [encapsulation]: source_v4 = \"224.0.0.1\" is a multicast address \
         (expected a unicast address)",
    );
    check(
        "source_entropy_v4 = \"172.16.0.0/16\"",
        "source_v6 = \"::\"",
        "weir.toml:17: [encapsulation]: source_v6 = \"::\" is the unspecified address \
         (expected a unicast address)",
    );
    check(
        "source_entropy_v4 = \"172.16.0.0/16\"",
        "source_v6 = \"192.0.2.2\"",
        "weir.toml:17: [encapsulation]: source_v6 = \"192.0.2.2\" is not an IPv6 address \
         (expected one such as \"2001:db8::2\")",
    );
}

#[test]
fn entropy_prefixes_are_prefixes() {
    check(
        "172.16.0.0/16",
        "172.16.0.1/16",
        "weir.toml:17: [encapsulation]: source_entropy_v4 = \"172.16.0.1/16\" has host bits \
         set (expected \"172.16.0.0/16\")",
    );
    check(
        "172.16.0.0/16",
        "172.16.0.0",
        "weir.toml:17: [encapsulation]: source_entropy_v4 = \"172.16.0.0\" is not an IPv4 \
         prefix (expected one such as \"172.16.0.0/16\")",
    );
    check(
        "172.16.0.0/16",
        "172.16.0.0/31",
        "weir.toml:17: [encapsulation]: source_entropy_v4 = \"172.16.0.0/31\" has a prefix \
         length of 31 (expected a length from 8 to 30)",
    );
    check(
        "172.16.0.0/16",
        "224.0.0.0/16",
        "weir.toml:17: [encapsulation]: source_entropy_v4 = \"224.0.0.0/16\" is a multicast \
         address (expected a unicast prefix)",
    );
    check(
        "source_entropy_v4 = \"172.16.0.0/16\"",
        "source_entropy_v6 = \"100::/120\"",
        "weir.toml:17: [encapsulation]: source_entropy_v6 = \"100::/120\" has a prefix \
         length of 120 (expected a length from 16 to 112)",
    );
}

#[test]
fn fragments_wait_no_longer_than_their_datagram_is_remembered() {
    check(
        "[[pool]]",
        "[fragments]\nwait_ms = 500\ntimeout_ms = 400\n[[pool]]",
        "weir.toml:20: [fragments]: wait_ms = 500 is more than timeout_ms = 400 (expected at most \
         timeout_ms)",
    );
    check(
        "[[pool]]",
        "[fragments]\nearly = \"never\"\n[[pool]]",
        "weir.toml:20: [fragments]: early = \"never\" is not known (expected \"wait\" or \"hash\")",
    );
}
