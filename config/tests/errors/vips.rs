//! `[[vip]]`.

use super::check;

#[test]
fn addresses_are_dialled_by_clients() {
    check(
        "203.0.113.1\"",
        "203.0.113.1/28\"",
        "weir.toml:31: vip \"203.0.113.1/28\": address = \"203.0.113.1/28\" has host bits \
         set (expected \"203.0.113.0/28\" or one address)",
    );
    check(
        "203.0.113.1\"",
        "203.0.113.256\"",
        "weir.toml:31: vip \"203.0.113.256\": address = \"203.0.113.256\" is not an IP \
         address or prefix (expected one such as \"203.0.113.1\")",
    );
    check(
        "203.0.113.1\"",
        "0.0.0.0/0\"",
        "weir.toml:31: vip \"0.0.0.0/0\": address = \"0.0.0.0/0\" is the unspecified address \
         (expected addresses that clients can dial)",
    );
    check(
        "203.0.113.1\"",
        "224.0.0.1\"",
        "weir.toml:31: vip \"224.0.0.1\": address = \"224.0.0.1\" is a multicast address \
         (expected addresses that clients can dial)",
    );
}

#[test]
fn a_vip_covers_no_machine_of_the_link() {
    check(
        "203.0.113.1\"",
        "192.0.2.2\"",
        "weir.toml:31: vip 192.0.2.2:80/tcp: address covers the node's own address 192.0.2.2 \
         of port \"uplink\" (expected addresses that no machine has)",
    );
    check(
        "203.0.113.1\"",
        "192.0.2.0/31\"",
        "weir.toml:31: vip 192.0.2.0/31:80/tcp: address covers the gateway 192.0.2.1 of port \
         \"uplink\" (expected addresses that no machine has)",
    );
}

#[test]
fn ports_are_numbers_ranges_or_any() {
    check(
        "port = 80\n",
        "port = \"http\"\n",
        "weir.toml:32: vip \"203.0.113.1\": port = \"http\" is not a port range (expected a \
         port number, a range \"8000-8099\", or \"any\")",
    );
    check(
        "port = 80\n",
        "port = \"80\"\n",
        "weir.toml:32: vip \"203.0.113.1\": port = \"80\" is not a port range (expected a \
         port number, a range \"8000-8099\", or \"any\")",
    );
    check(
        "port = 80\n",
        "port = \"90-80\"\n",
        "weir.toml:32: vip \"203.0.113.1\": port = \"90-80\" runs backwards (expected the \
         lower port first)",
    );
    check(
        "port = 80\n",
        "port = \"0-80\"\n",
        "weir.toml:32: vip \"203.0.113.1\": port = \"0-80\" is not a port range (expected a \
         port number, a range \"8000-8099\", or \"any\")",
    );
    check(
        "port = 80\n",
        "port = \"1-65536\"\n",
        "weir.toml:32: vip \"203.0.113.1\": port = \"1-65536\" is not a port range (expected \
         a port number, a range \"8000-8099\", or \"any\")",
    );
    check(
        "port = 80\n",
        "port = \"+1-80\"\n",
        "weir.toml:32: vip \"203.0.113.1\": port = \"+1-80\" is not a port range (expected a \
         port number, a range \"8000-8099\", or \"any\")",
    );
    check(
        "port = 80\n",
        "port = 65536\n",
        "weir.toml:32: vip \"203.0.113.1\": port = 65536 is out of range (expected 1 to \
         65535)",
    );
}

#[test]
fn an_mss_is_a_segment_size_or_auto() {
    for (value, found) in [
        ("87", "= 87 is out of range (expected 88 to 9176, or \"auto\")"),
        ("65536", "= 65536 is out of range (expected 88 to 9176, or \"auto\")"),
        (
            "\"1400\"",
            "= \"1400\" is no segment size (expected a segment size in bytes, or \"auto\")",
        ),
        ("true", "= true is a boolean (expected a segment size in bytes, or \"auto\")"),
    ] {
        check(
            "pool = \"web\"\n",
            &format!("pool = \"web\"\nmss_clamp = {value}\n"),
            &format!("weir.toml:35: vip \"203.0.113.1\": mss_clamp {found}"),
        );
    }
}

#[test]
fn the_pool_is_known() {
    check(
        "pool = \"web\"\n",
        "pool = \"wbe\"\n",
        "weir.toml:34: vip 203.0.113.1:80/tcp: pool = \"wbe\" is not known (expected the id \
         of a [[pool]]; nearest is \"web\")",
    );
}

#[test]
fn vips_of_equal_rank_name_both_lines() {
    check(
        "pool = \"web\"\n",
        "pool = \"web\"\n\n[[vip]]\naddress = \"203.0.113.1\"\nport = 80\nprotocol = \"tcp\"\npool = \"web\"\n",
        "weir.toml:38: vip 203.0.113.1:80/tcp: port = 80 is also that of the vip \
         203.0.113.1:80/tcp at line 32 (expected another port, protocol or address)",
    );
    check(
        "pool = \"web\"\n",
        "pool = \"web\"\n\n[[vip]]\naddress = \"203.0.113.1/32\"\nport = \"80-80\"\nprotocol = \"tcp\"\npool = \"web\"\n",
        "weir.toml:38: vip 203.0.113.1:80/tcp: port = 80 is also that of the vip \
         203.0.113.1:80/tcp at line 32 (expected another port, protocol or address)",
    );
    check(
        "port = 80\nprotocol = \"tcp\"\npool = \"web\"\n",
        "port = \"80-90\"\nprotocol = \"tcp\"\npool = \"web\"\n\n[[vip]]\naddress = \"203.0.113.1\"\nport = \"90-99\"\nprotocol = \"tcp\"\npool = \"web\"\n",
        "weir.toml:38: vip 203.0.113.1:90-99/tcp: port = \"90-99\" overlaps that of the vip \
         203.0.113.1:80-90/tcp at line 32 (expected ranges that do not intersect)",
    );
    check(
        "port = 80\nprotocol = \"tcp\"\npool = \"web\"\n",
        "port = \"any\"\nprotocol = \"any\"\npool = \"web\"\n\n[[vip]]\naddress = \"203.0.113.1\"\nport = \"any\"\nprotocol = \"any\"\npool = \"web\"\n",
        "weir.toml:38: vip 203.0.113.1:any/any: port = \"any\" is also that of the vip \
         203.0.113.1:any/any at line 32 (expected another port, protocol or address)",
    );
}

#[test]
fn timeouts_stay_within_a_day() {
    check(
        "pool = \"web\"\n",
        "pool = \"web\"\nestablished_seconds = 86401\n",
        "weir.toml:35: vip \"203.0.113.1\": established_seconds = 86401 is out of range \
         (expected 1 to 86400)",
    );
}
