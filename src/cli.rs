//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A layer-4 load balancer for bare-metal networks: DPDK poll-mode, Maglev, Direct Server
/// Return.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node: take packets from its ports and balance them until SIGINT or SIGTERM;
    /// SIGHUP re-reads the configuration.
    Run(RunArguments),
    /// Run a controller until SIGINT or SIGTERM: it knows pools, VIPs and backends, which backends
    /// are healthy, and tells every node.
    Controller(ControllerArguments),
    /// Run a checker until SIGINT or SIGTERM: it probes backends and tells the controllers.
    Checker(ServiceArguments),
    /// Validate the configuration of a node, a controller or a checker; touches no device.
    Check(CheckArguments),
    /// Run the real data path over a capture file; no root, no hugepages, no device.
    Replay(ReplayArguments),
    /// Say in words what would be done with one packet, and why.
    Explain(ExplainArguments),
    /// Operate the control plane: pools, VIPs, backends, drains, and who runs what.
    Ctl(Box<ctl::Arguments>),
    /// Print a script that lets a shell complete this command line.
    Completions(CompletionsArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The node's configuration (TOML).
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ControllerArguments {
    /// Its configuration (TOML).
    pub(crate) config: PathBuf,
    /// Give the registry another store id and exit: after it was restored from a backup, with all
    /// controllers stopped, so that nodes take what it holds.
    #[arg(long)]
    pub(crate) renew_store_id: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    /// Its configuration (TOML).
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The configuration to validate.
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The node's configuration; its devices are ignored.
    pub(crate) config: PathBuf,
    /// The capture to read (pcap or pcapng, Ethernet).
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Where to write what would have gone out (pcap).
    #[arg(long = "out", value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Print one JSON line for each packet read.
    #[arg(long)]
    pub(crate) json: bool,
    /// Before packet N is read, change to another configuration, as SIGHUP would; may be given
    /// several times.
    #[arg(long = "reload", value_name = "N:CONFIG")]
    pub(crate) reloads: Vec<Reload>,
}

/// `--reload N:CONFIG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reload {
    pub(crate) packet: u64,
    pub(crate) config: PathBuf,
}

impl FromStr for Reload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (packet, config) = text.split_once(':').ok_or("expected N:CONFIG")?;
        let packet = packet
            .parse()
            .map_err(|_| format!("{packet:?} is not the number of a packet, counted from 0"))?;
        Ok(Self { packet, config: config.into() })
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// The node's configuration.
    pub(crate) config: PathBuf,
    /// The client.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) src: SocketAddr,
    /// The VIP and port it dials.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) dst: SocketAddr,
    /// The transport protocol.
    #[arg(long, value_enum, default_value = "tcp")]
    pub(crate) proto: Protocol,
    /// The TCP flags of the packet, joined with commas [default: syn].
    #[arg(long, value_delimiter = ',')]
    pub(crate) flags: Vec<Flag>,
    /// Of a UDP packet: a QUIC packet with a short header and this connection id, in hexadecimal
    /// digits.
    #[arg(long, value_name = "HEX")]
    pub(crate) connection_id: Option<ConnectionId>,
    /// Not a whole packet: the first fragment of a datagram, or a later one.
    #[arg(long, value_enum)]
    pub(crate) fragment: Option<Part>,
    /// Ask about an ICMP error in place of the packet itself: about what the VIP sends to the client
    /// on this flow, by a router or host at the client's address.
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) icmp_error: Option<IcmpError>,
}

/// A part of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The first, which has the ports.
    First,
    /// Another.
    Later,
}

/// `--icmp-error KIND`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IcmpError {
    /// Frag-needed, or packet too big.
    TooBig,
    /// Destination unreachable, by its port.
    Unreachable,
    /// Time exceeded.
    TimeExceeded,
}

/// `--connection-id HEX`: 1 to 20 octets (RFC 9000 section 17.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(pub(crate) Vec<u8>);

impl FromStr for ConnectionId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected 1 to 20 octets, two hexadecimal digits each";
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()))
            .collect();
        match digits {
            Some(digits) if digits.len() % 2 == 0 && (2..=40).contains(&digits.len()) => {
                let octets = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]);
                Ok(Self(octets.collect()))
            }
            _ => Err(expected),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// For which shell.
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flag {
    Syn,
    Ack,
    Fin,
    Rst,
    Psh,
    Urg,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_reload_names_a_packet_and_a_file() {
        let reload: Reload = "12:a:b.toml".parse().unwrap();
        assert_eq!((reload.packet, reload.config), (12, PathBuf::from("a:b.toml")));
        assert!("x:a.toml".parse::<Reload>().is_err());
        assert!("a.toml".parse::<Reload>().is_err());
    }

    #[test]
    fn a_connection_id_is_octets_in_hexadecimal() {
        assert_eq!("0aFf".parse(), Ok(ConnectionId(vec![0x0a, 0xff])));
        for text in ["", "0", "0g", "+1", &"00".repeat(21)] {
            assert!(text.parse::<ConnectionId>().is_err(), "{text}");
        }
    }
}
