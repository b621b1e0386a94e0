//! What an operator does: calls to the controller's gRPC interface.

use std::future::Future;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use client::{Client, Controllers};
use proto::v1;
use tokio::time::sleep;
use tonic::{Code, Response, Status};

/// Bound of a call.
const PATIENCE: Duration = Duration::from_secs(20);
/// After a refusal for too many changes a second.
const BACK_OFF: Duration = Duration::from_millis(50);

/// A backend as it is registered.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
    /// It is asked for its readiness, too.
    pub(super) readiness: bool,
}

/// A change of a backend.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Weight(String, u32),
    Drain(String),
    Undrain(String),
    Register(Member),
    /// At once, so that its flows are reset.
    Deregister(String),
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    controllers: Controllers,
}

impl Operator {
    pub(super) fn new(controllers: Controllers) -> Self {
        Self { controllers }
    }

    async fn call<T, F>(&self, request: impl FnMut(Client) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.controllers.call(PATIENCE, request).await
    }

    pub(super) async fn create_pool(&self, pool: &str) -> Result<()> {
        let request = v1::CreatePoolReq { pool_id: pool.to_owned(), settings: None };
        self.call(|mut client| {
            let request = request.clone();
            async move { client.create_pool(request).await }
        })
        .await
        .with_context(|| format!("pool {pool}"))?;
        Ok(())
    }

    pub(super) async fn bind(&self, pool: &str, address: Ipv4Addr) -> Result<()> {
        let vip = v1::Vip {
            address: address.to_string(),
            first_port: 80,
            last_port: 80,
            protocol: v1::Protocol::Tcp.into(),
            ..v1::Vip::default()
        };
        let request = v1::BindVipReq { pool_id: pool.to_owned(), vip: Some(vip), from_pool: None };
        self.call(|mut client| {
            let request = request.clone();
            async move { client.bind_vip_to_pool(request).await }
        })
        .await
        .with_context(|| format!("VIP {address}"))?;
        Ok(())
    }

    /// Registers; waits where the controller asks for patience.
    pub(super) async fn register(&self, pool: &str, member: &Member) -> Result<()> {
        loop {
            match self.change(pool, &Change::Register(member.clone())).await {
                Err(status) if status.code() == Code::ResourceExhausted => sleep(BACK_OFF).await,
                done => return done.with_context(|| format!("backend {}", member.id)),
            }
        }
    }

    /// Makes a change of a pool.
    pub(super) async fn change(&self, pool: &str, change: &Change) -> Result<(), Status> {
        match change {
            Change::Weight(id, weight) => {
                let request = v1::UpdateBackendReq {
                    backend_id: id.clone(),
                    weight: Some(*weight),
                    ..v1::UpdateBackendReq::default()
                };
                self.call(|mut client| {
                    let request = request.clone();
                    async move { client.update_backend(request).await }
                })
                .await
                .map(drop)
            }
            Change::Drain(id) | Change::Undrain(id) => {
                let undo = matches!(change, Change::Undrain(_));
                // Longer than the run: it does not end by itself.
                let drain_seconds = if undo { 0 } else { 600 };
                let request = v1::DrainBackendReq { backend_id: id.clone(), drain_seconds, undo };
                self.call(|mut client| {
                    let request = request.clone();
                    async move { client.drain_backend(request).await }
                })
                .await
                .map(drop)
            }
            Change::Register(member) => {
                let Member { id, address, port, readiness } = member;
                let url = match readiness {
                    true => format!("http://{address}:{port}/ready"),
                    false => String::new(),
                };
                let request = v1::RegisterBackendReq {
                    pool_id: pool.to_owned(),
                    backend_id: id.clone(),
                    ip: address.to_string(),
                    port: u32::from(*port),
                    readiness_probe_url: url,
                    ..v1::RegisterBackendReq::default()
                };
                self.call(|mut client| {
                    let request = request.clone();
                    async move { client.register_backend(request).await }
                })
                .await
                .map(drop)
            }
            Change::Deregister(id) => {
                let request =
                    v1::DeregisterBackendReq { backend_id: id.clone(), immediately: true };
                self.call(|mut client| {
                    let request = request.clone();
                    async move { client.deregister_backend(request).await }
                })
                .await
                .map(drop)
            }
        }
    }

    /// The pool with its backends, as operators see it.
    pub(super) async fn pool(&self, pool: &str) -> Result<v1::Pool> {
        let request = v1::GetPoolReq { pool_id: pool.to_owned() };
        let answer = self
            .call(|mut client| {
                let request = request.clone();
                async move { client.get_pool(request).await }
            })
            .await;
        answer.with_context(|| format!("pool {pool}"))
    }

    /// Who runs what.
    pub(super) async fn nodes(&self) -> Result<v1::ListNodesResp> {
        let request = v1::ListNodesReq {};
        let answer = self.call(|mut client| async move { client.list_nodes(request).await }).await;
        answer.context("nodes")
    }
}
