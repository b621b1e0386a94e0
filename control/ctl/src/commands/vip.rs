//! `vip list|bind|unbind`.

use clap::{Args, Subcommand};
use proto::v1::{Affinity, BindVipReq, BoundVip, ListViPsReq, ListViPsResp, UnbindVipReq};

use super::Context;
use crate::failure::Failure;
use crate::mss::MssClamp;
use crate::output::{Rows, cell};
use crate::vip::{VipName, describe};
use crate::words;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// All VIPs, or those of a pool.
    List {
        /// Only this pool's.
        #[arg(long)]
        pool: Option<String>,
    },
    /// Let a pool serve a VIP.
    Bind {
        /// The pool.
        pool: String,
        /// ADDRESS:PORT/PROTOCOL, such as 203.0.113.1:80/tcp or 203.0.113.0/28:8000-8099/any; IPv6
        /// in brackets.
        vip: VipName,
        /// The pool that serves it now: the VIP moves in one step.
        #[arg(long, value_name = "POOL")]
        from: Option<String>,
        #[command(flatten)]
        idle: Idle,
        /// What a client is known by: flow (the 5-tuple), source or quic [default: flow].
        #[arg(long, value_parser = |text: &str| words::value(words::AFFINITIES, text))]
        affinity: Option<Affinity>,
        /// The largest MSS that a client's SYN may name: off, auto (what fits one packet to the
        /// backend), or 88 to 9176 bytes [default: off].
        #[arg(long, value_name = "BYTES")]
        mss_clamp: Option<MssClamp>,
    },
    /// Let nobody serve a VIP any more: its flows end.
    Unbind {
        /// As it was bound.
        vip: VipName,
    },
}

/// Idle times of a VIP's flows; 0 is the default.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Idle {
    /// TCP, after a SYN [default: 30].
    #[arg(long, value_name = "SECONDS", default_value_t, hide_default_value = true)]
    syn_received_seconds: u32,
    /// TCP, open [default: 300].
    #[arg(long, value_name = "SECONDS", default_value_t, hide_default_value = true)]
    established_seconds: u32,
    /// TCP, closing [default: 60].
    #[arg(long, value_name = "SECONDS", default_value_t, hide_default_value = true)]
    fin_wait_seconds: u32,
    /// TCP, closed [default: 60].
    #[arg(long, value_name = "SECONDS", default_value_t, hide_default_value = true)]
    time_wait_seconds: u32,
    /// UDP [default: 60].
    #[arg(long, value_name = "SECONDS", default_value_t, hide_default_value = true)]
    udp_idle_seconds: u32,
}

pub(super) async fn run(command: &Command, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    match command {
        Command::List { pool } => list(pool.clone().unwrap_or_default(), context).await,
        Command::Bind { pool, vip, from, idle, affinity, mss_clamp } => {
            let mut message = vip.to_message();
            message.set_affinity(affinity.unwrap_or_default());
            mss_clamp.unwrap_or_default().lay_over(&mut message);
            message.syn_received_seconds = idle.syn_received_seconds;
            message.established_seconds = idle.established_seconds;
            message.fin_wait_seconds = idle.fin_wait_seconds;
            message.time_wait_seconds = idle.time_wait_seconds;
            message.udp_idle_seconds = idle.udp_idle_seconds;
            let (pool_id, from_pool) = (pool.clone(), from.clone());
            let request = BindVipReq { pool_id, vip: Some(message), from_pool };
            let ack = context
                .session
                .call("BindVIPToPool", request, |mut client, request| async move {
                    client.bind_vip_to_pool(request).await
                })
                .await?;
            context.done(&ack, format_args!("{vip} is served by pool {pool}"))
        }
        Command::Unbind { vip } => {
            let request = UnbindVipReq { vip: Some(vip.to_message()) };
            let ack = context
                .session
                .call("UnbindVIP", request, |mut client, request| async move {
                    client.unbind_vip(request).await
                })
                .await?;
            context.done(&ack, format_args!("{vip} is served by nobody"))
        }
    }
}

async fn list(pool_id: String, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let answer: ListViPsResp = context
        .session
        .call("ListVIPs", ListViPsReq { pool_id }, |mut client, request| async move {
            client.list_vi_ps(request).await
        })
        .await?;
    if context.json {
        return Ok(context.out.json(&answer)?);
    }
    Ok(context.out.rows(&table(&answer.vips), "no VIPs")?)
}

fn table(vips: &[BoundVip]) -> Rows {
    let mut rows = Rows::new(&[
        "VIP",
        "POOL",
        "SYN",
        "ESTABLISHED",
        "FIN-WAIT",
        "TIME-WAIT",
        "UDP",
        "AFFINITY",
        "MSS",
    ]);
    for bound in vips {
        let vip = bound.vip.clone().unwrap_or_default();
        let seconds = |seconds: u32| cell(format_args!("{seconds}s"));
        rows.push(vec![
            cell(describe(&vip)),
            cell(&bound.pool_id),
            seconds(vip.syn_received_seconds),
            seconds(vip.established_seconds),
            seconds(vip.fin_wait_seconds),
            seconds(vip.time_wait_seconds),
            seconds(vip.udp_idle_seconds),
            cell(words::word(words::AFFINITIES, vip.affinity())),
            cell(MssClamp::from_message(&vip)),
        ]);
    }
    rows
}
