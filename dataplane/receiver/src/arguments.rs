//! The command line.

use clap::Parser;
use ipnet::IpNet;

/// Receives GUE on a backend, and passes packets of flows that this host does not know on to the
/// backend that they name. Stops at SIGTERM or SIGINT; SIGUSR1 prints the counters.
#[derive(Clone, Debug, Parser)]
#[command(name = "weir-gue", version)]
pub struct Arguments {
    /// Addresses that packets may be for, as address or prefix; several times for several
    #[arg(long = "vip", value_name = "PREFIX", required = true, value_parser = prefix)]
    pub vips: Vec<IpNet>,

    /// Addresses of nodes and of fellow backends: who may send, and who may be a next hop; several
    /// times for several. Whoever can send from one of them can send packets into this host
    #[arg(long = "peer", value_name = "PREFIX", required = true, value_parser = prefix)]
    pub peers: Vec<IpNet>,

    /// UDP port, here and at the next hop
    #[arg(long, default_value_t = 6080, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// Name of the TUN device to create; the packets inside arrive on it
    #[arg(long, value_name = "NAME", default_value = "weirgue0", value_parser = device)]
    pub tun: String,

    /// Threads for each version of IP outside
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,

    /// Drop packets that were forwarded by tables two versions old, or older
    #[arg(long)]
    pub drop_old_versions: bool,

    /// Print the counters every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub stats: Option<u64>,
}

/// An address, or a prefix without host bits.
fn prefix(text: &str) -> Result<IpNet, String> {
    let expected = "expected an IP address or a prefix: 192.0.2.1, 192.0.2.0/24, 2001:db8::/64";
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(address.into());
    }
    let prefix: IpNet = text.parse().map_err(|_| expected.to_owned())?;
    match prefix == prefix.trunc() {
        true => Ok(prefix),
        false => Err(format!("has host bits (expected {})", prefix.trunc())),
    }
}

/// A name that the kernel takes for a device: up to 15 bytes, no slash, no blank.
fn device(text: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
    let clean = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    match fits && clean {
        true => Ok(text.to_owned()),
        false => {
            Err("expected 1 to 15 letters, digits and punctuation, without / and :".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, String> {
        let all = [&["weir-gue"], arguments].concat();
        Arguments::try_parse_from(all).map_err(|error| error.to_string())
    }

    #[test]
    fn vips_and_peers_are_addresses_or_prefixes_and_must_be_given() {
        let good =
            parse(&["--vip", "203.0.113.1", "--peer", "192.0.2.0/24", "--peer", "2001:db8::/64"]);
        let good = good.unwrap();
        assert_eq!(good.vips, ["203.0.113.1/32".parse().unwrap()]);
        assert_eq!((good.peers.len(), good.port, good.threads), (2, 6080, 1));
        for (arguments, said) in [
            (&["--peer", "192.0.2.1"][..], "--vip <PREFIX>"),
            (&["--vip", "203.0.113.1"], "--peer <PREFIX>"),
            (&["--vip", "203.0.113.1", "--peer", "192.0.2.1/24"], "expected 192.0.2.0/24"),
            (&["--vip", "web", "--peer", "192.0.2.1"], "expected an IP address or a prefix"),
            (&["--vip", "203.0.113.1", "--peer", "::/0", "--tun", "a/b"], "expected 1 to 15"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
