//! The commands, a file each: its arguments, its calls, and how the answer is shown.

mod backend;
mod drain;
mod export;
mod fleet;
mod import;
mod plan;
mod pool;
mod reload;
mod status;
mod vip;
mod watch;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Connection, Session};
use crate::words::clean;

/// Operate the control plane: pools, VIPs, backends, drains, and who runs what.
#[derive(Clone, Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// Print JSON, one value a line: the messages of weir.v1 in the protobuf JSON mapping.
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// The leader, the pools and the nodes in one glance.
    Status,
    /// Pools: how they balance, forward and judge health.
    #[command(subcommand)]
    Pool(pool::Command),
    /// VIPs: what clients dial, and the pool that serves it.
    #[command(subcommand)]
    Vip(vip::Command),
    /// Backends: who serves.
    #[command(subcommand)]
    Backend(backend::Command),
    /// Give a backend no new flows, let its flows end, then evict it.
    Drain(drain::Arguments),
    /// The nodes: what each runs, how old it is, and whether they agree.
    Fleet(fleet::Arguments),
    /// What a change would do (backends, slots, live flows), without doing it.
    #[command(subcommand)]
    Plan(plan::Command),
    /// What happens, as it happens; or the snapshots of a pool, a line each.
    Watch(watch::Arguments),
    /// Print the whole configuration (pools, backends, VIPs) as TOML.
    Export(export::Arguments),
    /// Make the controllers' configuration what a TOML file says.
    Import(import::Arguments),
    /// Make a node or controller of this machine read its configuration file again.
    Reload(reload::Arguments),
}

/// What every command is given.
pub(crate) struct Context<'c, 'o> {
    pub(crate) session: Session,
    pub(crate) json: bool,
    pub(crate) out: &'c mut Output<'o>,
}

impl Context<'_, '_> {
    /// The end of a call whose answer is an acknowledgement: a sentence, or the message.
    pub(crate) fn done(
        &mut self,
        answer: &impl Serialize,
        sentence: std::fmt::Arguments<'_>,
    ) -> Result<(), Failure> {
        match self.json {
            true => self.out.json(answer)?,
            false => self.out.line(clean(&sentence.to_string()))?,
        }
        Ok(())
    }
}

pub(crate) async fn execute(arguments: &Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    if let Command::Reload(reload) = &arguments.command {
        return reload::run(reload, out);
    }
    let session = Session::new(&arguments.connection)?;
    let mut context = Context { session, json: arguments.json, out };
    match &arguments.command {
        Command::Status => status::run(&mut context).await,
        Command::Pool(command) => pool::run(command, &mut context).await,
        Command::Vip(command) => vip::run(command, &mut context).await,
        Command::Backend(command) => backend::run(command, &mut context).await,
        Command::Drain(drain) => drain::run(drain, &mut context).await,
        Command::Fleet(fleet) => fleet::run(fleet, &mut context).await,
        Command::Plan(command) => plan::run(command, &mut context).await,
        Command::Watch(watch) => watch::run(watch, &mut context).await,
        Command::Export(export) => export::run(export, &arguments.connection, &mut context).await,
        Command::Import(import) => import::run(import, &mut context).await,
        Command::Reload(reload) => reload::run(reload, context.out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        ctl: Arguments,
    }

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        let words = std::iter::once("ctl").chain(line.split_whitespace());
        Program::try_parse_from(words).map(|program| program.ctl)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Program::command().debug_assert();
    }

    /// The names of all commands and options, as they are typed.
    fn names(command: &clap::Command, prefix: &str, found: &mut Vec<String>) {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            found.extend(argument.get_long().map(|long| format!("--{long}")));
        }
        for command in command.get_subcommands() {
            let name = format!("{prefix}{}", command.get_name());
            names(command, &format!("{name} "), found);
            if !command.has_subcommands() {
                found.push(name);
            }
        }
    }

    #[test]
    fn the_manual_has_every_command_and_option() {
        let manual = include_str!("../../../../docs/ctl.md");
        let mut found = Vec::new();
        names(&Program::command(), "", &mut found);
        assert!(found.len() > 60, "{found:?}");
        let within = |one: char| one.is_ascii_alphanumeric() || one == '-';
        for name in found {
            let whole = |(at, _): (usize, &str)| {
                let after = manual.get(at + name.len()..).and_then(|rest| rest.chars().next());
                !after.is_some_and(within)
            };
            assert!(manual.match_indices(&name).any(whole), "docs/ctl.md has no `{name}`");
        }
    }

    #[test]
    fn every_command_parses() {
        for line in [
            "status",
            "pool list --json",
            "pool show web",
            "pool create web --table-size 655373 --forwarding gue --probe http --reselect true",
            "pool update web --drain-seconds 30 --rotate-secret",
            "pool delete web",
            "vip list --pool web",
            "vip bind web [2001:db8::1]:443/tcp --udp-idle-seconds 5",
            "vip unbind 203.0.113.0/28:8000-8099/any",
            "backend list",
            "backend show b",
            "backend register web b --ip 192.0.2.1 --port 80 --label az=a --label rack=",
            "backend update b --weight 0 --remove-label az",
            "backend deregister b --now",
            "drain b",
            "drain b --seconds 5 --wait",
            "drain b --wait=90",
            "drain b --undo",
            "fleet --check",
            "plan register web b --ip 192.0.2.1 --port 80",
            "plan deregister b",
            "plan drain b",
            "plan weight b 10",
            "plan update b --ip 2001:db8::1",
            "plan pool web --table-size 131071",
            "watch",
            "watch --last 256 --count 3",
            "watch --pool web",
            "export --secrets --file a.toml",
            "export --secrets --node lb-1 --node-token-file t",
            "import a.toml --dry-run --prune",
            "reload --pid 12",
            "status --endpoint http://a:1 --endpoint http://b:1 --timeout 3 --token-file t",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for line in [
            "pool create",
            "pool create web --scheduler random",
            "pool update web",
            "pool create web --rotate-secret",
            "vip bind web 203.0.113.1",
            "backend register web b --ip 192.0.2.1",
            "backend register web b --ip host --port 80",
            "backend register web b --ip 192.0.2.1 --port 0",
            "backend register web b --ip 192.0.2.1 --port 80 --label az",
            "backend update b",
            "drain b --undo --seconds 4",
            "drain b --undo --wait",
            "plan weight b 65536",
            "plan pool web",
            "import",
            "import a.toml --now",
            "export --node lb-1 --node-token-file t",
            "export --secrets --node lb-1",
            "reload",
            "reload --pid 0",
            "status --timeout 0",
            "watch --last 257",
            "watch --last 2 --pool web",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
