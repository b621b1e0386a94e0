//! What the schema alone can tell: names, types, ranges, choices; and text that is no TOML.

use super::check;

#[test]
fn unknown_key_names_the_nearest() {
    check(
        "memory_mib = 512",
        "memory_mb = 512",
        "weir.toml:6: [dpdk]: unknown key \"memory_mb\" (expected a known key; nearest is \
         \"memory_mib\")",
    );
    check(
        "weight = 100",
        "Weigth = 100",
        "weir.toml:28: pool \"web\": backend \"host-1\": unknown key \"Weigth\" (expected a \
         known key; nearest is \"weight\")",
    );
    check(
        "[dpdk]",
        "[dpkd]",
        "weir.toml:5: unknown key \"dpkd\" (expected a known key; nearest is \"dpdk\")",
    );
    check(
        "mac = \"02",
        "MAC = \"02",
        "weir.toml:14: port \"uplink\": neighbors: unknown key \"MAC\" (expected a known \
         key; nearest is \"mac\")\n\
         weir.toml:14: port \"uplink\": neighbors: mac is missing (expected a MAC address in \
         quotes, such as \"02:00:00:00:00:01\")",
    );
    check(
        "[node]",
        "[node]\n\"\\u001b[2J\" = 1",
        "weir.toml:2: [node]: unknown key \"\\u{1b}[2J\" (expected a known key; nearest is \
         \"name\")",
    );
}

#[test]
fn wrong_type_names_the_expected_one() {
    check(
        "memory_mib = 512",
        "memory_mib = \"512\"",
        "weir.toml:6: [dpdk]: memory_mib = \"512\" is a string (expected an integer)",
    );
    check(
        "name = \"lb-a1\"",
        "name = 5",
        "weir.toml:2: [node]: name = 5 is an integer (expected a string)",
    );
    check(
        "worker_cores = [1, 2]",
        "worker_cores = 1",
        "weir.toml:7: [dpdk]: worker_cores = 1 is an integer (expected a list of integers)",
    );
    check(
        "worker_cores = [1, 2]",
        "worker_cores = [1,\n\"two\", 2.0]",
        "weir.toml:8: [dpdk]: worker_cores: \"two\" is a string (expected an integer)\n\
         weir.toml:8: [dpdk]: worker_cores: 2.0 is a float (expected an integer)",
    );
    check(
        "[node]\nname",
        "[[node]]\nname",
        "weir.toml:1: node is a list (expected a table [node])",
    );
    check(
        "[dpdk]\n",
        "[dpdk]\nhugepages = 1\n",
        "weir.toml:6: [dpdk]: hugepages = 1 is an integer (expected true or false)",
    );
    check(
        "weight = 100",
        "weight = 1.5",
        "weir.toml:28: pool \"web\": backend \"host-1\": weight = 1.5 is a float (expected \
         an integer)",
    );
    check(
        "port = 80",
        "port = 8.0",
        "weir.toml:32: vip \"203.0.113.1\": port = 8.0 is a float (expected a port number, a \
         range \"8000-8099\", or \"any\")",
    );
    check(
        "source_entropy_v4 = \"172.16.0.0/16\"",
        "source_v4 = 2024-01-01",
        "weir.toml:17: [encapsulation]: source_v4 = 2024-01-01 is a date or time (expected \
         an IPv4 address in quotes, such as \"192.0.2.2\")",
    );
    check(
        "hash_secret = \"000102030405060708090a0b0c0d0e0f\"",
        "hash_secret = 5",
        "weir.toml:23: pool \"web\": hash_secret = \"...\" is an integer (expected 32 hex \
         digits in quotes)",
    );
    check(
        "neighbors = [{ address = \"192.0.2.1\", mac = \"02:00:00:00:00:01\" }]",
        "neighbors = [\"192.0.2.1\"]",
        "weir.toml:14: port \"uplink\": neighbors: \"192.0.2.1\" is a string (expected a \
         table { address = \"...\", mac = \"...\" })",
    );
    check(
        "[dpdk]\n",
        "[dpdk]\neal_args = [\"-a\", 1]\n",
        "weir.toml:6: [dpdk]: eal_args: 1 is an integer (expected a string)",
    );
    check(
        "[[vip]]",
        "[vip]",
        "weir.toml:30: vip is a table (expected tables, each written [[vip]])",
    );
}

#[test]
fn missing_key_points_at_its_table() {
    check("name = \"uplink\"\n", "", "weir.toml:9: port #1: name is missing (expected a string)");
    check(
        "device = \"net_tap0,iface=weir0\"\n",
        "",
        "weir.toml:9: port \"uplink\": device is missing (expected a string)",
    );
    check(
        "id = \"host-1\"\n",
        "",
        "weir.toml:25: pool \"web\": backend #1: id is missing (expected a string)",
    );
    check(
        "port = 80\n",
        "",
        "weir.toml:30: vip \"203.0.113.1\": port is missing (expected a port number, a range \
         \"8000-8099\", or \"any\")",
    );
    check(
        "pool = \"web\"\n",
        "",
        "weir.toml:30: vip \"203.0.113.1\": pool is missing (expected a string)",
    );
}

#[test]
fn number_out_of_range_names_the_range() {
    check(
        "memory_mib = 512",
        "memory_mib = 5",
        "weir.toml:6: [dpdk]: memory_mib = 5 is out of range (expected 64 to 1048576)",
    );
    check(
        "memory_mib = 512",
        "memory_mib = 99999999999999999999",
        "weir.toml:6: [dpdk]: memory_mib = 99999999999999999999 is out of range (expected 64 \
         to 1048576)",
    );
    check(
        "weight = 100",
        "weight = -1",
        "weir.toml:28: pool \"web\": backend \"host-1\": weight = -1 is out of range \
         (expected 0 to 65535)",
    );
    check(
        "weight = 100",
        "weight = 0x1_0000",
        "weir.toml:28: pool \"web\": backend \"host-1\": weight = 0x1_0000 is out of range \
         (expected 0 to 65535)",
    );
    check(
        "worker_cores = [1, 2]",
        "worker_cores = [1, 1024]",
        "weir.toml:7: [dpdk]: worker_cores: 1024 is out of range (expected 0 to 1023)",
    );
    check(
        "port = 80\n",
        "port = 0\n",
        "weir.toml:32: vip \"203.0.113.1\": port = 0 is out of range (expected 1 to 65535)",
    );
    check(
        "port = 80\n",
        "port = 80\nudp_idle_seconds = 0\n",
        "weir.toml:33: vip \"203.0.113.1\": udp_idle_seconds = 0 is out of range (expected 1 \
         to 86400)",
    );
    check(
        "[encapsulation]\n",
        "[conntrack]\nflows = 63\n\n[encapsulation]\n",
        "weir.toml:17: [conntrack]: flows = 63 is out of range (expected 64 to 268435456)",
    );
}

#[test]
fn what_comes_later_is_refused_by_name() {
    check(
        "forwarding = \"ipip\"",
        "forwarding = \"nat\"",
        "weir.toml:22: pool \"web\": forwarding = \"nat\" is not supported in this release \
         (expected \"ipip\", \"gre\", \"gue\" or \"l2dsr\")",
    );
    check(
        "forwarding = \"ipip\"",
        "scheduler = \"wrr\"",
        "weir.toml:22: pool \"web\": scheduler = \"wrr\" is not supported in this release \
         (expected \"maglev\" or \"ring\")",
    );
}

#[test]
fn unknown_choice_names_the_choices() {
    check(
        "[dpdk]\n",
        "[dpdk]\nidle = \"nap\"\n",
        "weir.toml:6: [dpdk]: idle = \"nap\" is not known (expected \"spin\" or \"backoff\")",
    );
    check(
        "[dpdk]\n",
        "[dpdk]\nfewer_queues = \"Use\"\n",
        "weir.toml:6: [dpdk]: fewer_queues = \"Use\" is not known (expected \"refuse\" or \
         \"use\")",
    );
    check(
        "forwarding = \"ipip\"",
        "forwarding = \"vxlan\"",
        "weir.toml:22: pool \"web\": forwarding = \"vxlan\" is not known (expected \
         \"ipip\", \"gre\", \"gue\" or \"l2dsr\")",
    );
    check(
        "weight = 100",
        "state = \"off\"",
        "weir.toml:28: pool \"web\": backend \"host-1\": state = \"off\" is not known \
         (expected \"active\" or \"drain\")",
    );
    check(
        "protocol = \"tcp\"",
        "protocol = \"sctp\"",
        "weir.toml:33: vip \"203.0.113.1\": protocol = \"sctp\" is not known (expected \
         \"tcp\", \"udp\" or \"any\")",
    );
}

#[test]
fn text_that_is_no_toml_points_at_the_line() {
    check(
        "memory_mib = 512",
        "memory_mib 512",
        "weir.toml:6: not TOML: key with no value, expected `=`",
    );
    check(
        "name = \"lb-a1\"",
        "name = \"lb-a1",
        "weir.toml:2: not TOML: invalid basic string, expected `\"`",
    );
    check("[dpdk]", "[dpdk", "weir.toml:5: not TOML: unclosed table, expected `]`");
    check(
        "memory_mib = 512",
        "memory_mib = 512\nmemory_mib = 513",
        "weir.toml:7: key \"memory_mib\" is there twice (expected each key and table once)",
    );
    check(
        "[dpdk]",
        "[node]",
        "weir.toml:5: key \"node\" is there twice (expected each key and table once)",
    );
}
