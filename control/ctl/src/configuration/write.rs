//! A configuration as TOML text, in a fixed order: the same configuration is the same text.

use toml::Spanned;

use super::table::{
    BackendTable, FileTable, MssValue, PoolTable, PortValue, ProbeTable, QuicTable, VipTable,
};
use super::{Backend, Configuration, Pool, Service, Vip};
use crate::mss::MssClamp;
use crate::secret::hex;
use crate::vip::{Ports, VipName, address_text};
use crate::words::{AFFINITIES, FORWARDINGS, PROBES, SCHEDULERS, word};
use proto::v1::{Affinity, QuicConfiguration};

/// The file that [`super::read`] reads as `configuration`. Secrets that it holds are written.
///
/// # Errors
/// The text cannot be made.
pub(crate) fn write(configuration: &Configuration) -> Result<String, String> {
    let table = FileTable {
        pools: configuration.pools.iter().map(|(id, one)| pool(id, one)).collect(),
        vips: configuration.vips.iter().map(|(name, one)| vip(*name, one)).collect(),
    };
    toml::to_string(&table).map_err(|error| error.to_string())
}

/// A value; its place is not known before it is written.
fn some<T>(value: T) -> Option<Spanned<T>> {
    Some(new(value))
}

fn new<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn pool(id: &str, pool: &Pool) -> PoolTable {
    let settings = &pool.settings;
    let probe = settings.probe.clone().unwrap_or_default();
    PoolTable {
        id: new(id.to_owned()),
        scheduler: some(word(SCHEDULERS, settings.scheduler()).to_owned()),
        table_size: some(settings.table_size),
        forwarding: some(word(FORWARDINGS, settings.forwarding()).to_owned()),
        hash_secret: pool.secret.as_ref().map(|secret| new(secret.reveal())),
        drain_seconds: some(settings.drain_seconds),
        reselect: Some(settings.reselect),
        gue_variant: settings.gue_variant_0.then(|| new(0)),
        second_chance: settings.second_chance.then_some(true),
        quorum_checkers: some(settings.quorum_checkers),
        quorum_down: some(settings.quorum_down),
        panic_percent: some(settings.panic_percent),
        slow_start_seconds: some(settings.slow_start_seconds),
        probe: Some(ProbeTable {
            liveness: some(word(PROBES, probe.liveness()).to_owned()),
            interval_ms: some(probe.interval_ms),
            timeout_ms: some(probe.timeout_ms),
            failures_to_down: some(probe.failures_to_down),
            passes_to_up: some(probe.passes_to_up),
            jitter_percent: some(probe.jitter_percent),
            http_expected_status: some(probe.http_expected_status),
            udp_payload: (!probe.udp_payload.is_empty()).then(|| new(hex(&probe.udp_payload))),
            command: (!probe.command.is_empty()).then_some(probe.command),
        }),
        quic: settings.quic.iter().map(quic).collect(),
        backends: pool
            .backends
            .iter()
            .filter(|(_, one)| one.service != Service::Leaving)
            .map(|(id, one)| backend(id, one))
            .collect(),
    }
}

fn quic(quic: &QuicConfiguration) -> QuicTable {
    QuicTable {
        config_id: new(quic.config_id),
        server_id_length: new(quic.server_id_length),
        nonce_length: new(quic.nonce_length),
        key: (!quic.key.is_empty()).then(|| new(hex(&quic.key))),
        encrypted: (quic.encrypted && quic.key.is_empty()).then_some(true),
        self_encoded_length: quic.self_encoded_length.then_some(true),
    }
}

fn backend(id: &str, backend: &Backend) -> BackendTable {
    let url = &backend.readiness_probe_url;
    BackendTable {
        id: new(id.to_owned()),
        address: new(backend.ip.to_string()),
        port: new(backend.port.into()),
        weight: some(backend.weight.into()),
        readiness_probe_url: (!url.is_empty()).then(|| new(url.clone())),
        state: match backend.service {
            Service::Unsaid | Service::Leaving => None,
            Service::Active => some("active".to_owned()),
            Service::Drain | Service::Evicted => some("drain".to_owned()),
        },
        quic_server_ids: backend.quic_server_ids.iter().map(|id| new(hex(id))).collect(),
        labels: backend.labels.clone(),
    }
}

fn vip(name: VipName, vip: &Vip) -> VipTable {
    let port = match name.ports {
        Ports::Range(first, last) if first == last => PortValue::Number(first.into()),
        ports => PortValue::Text(ports.to_string()),
    };
    VipTable {
        address: new(address_text(name.address)),
        port: new(port),
        protocol: new(name.protocol.to_string()),
        pool: new(vip.pool.clone()),
        syn_received_seconds: some(vip.idle.syn_received),
        established_seconds: some(vip.idle.established),
        fin_wait_seconds: some(vip.idle.fin_wait),
        time_wait_seconds: some(vip.idle.time_wait),
        udp_idle_seconds: some(vip.idle.udp),
        affinity: (vip.affinity != Affinity::Flow)
            .then(|| new(word(AFFINITIES, vip.affinity).to_owned())),
        mss_clamp: match vip.mss_clamp {
            MssClamp::Off => None,
            MssClamp::Auto => some(MssValue::Text(vip.mss_clamp.to_string())),
            MssClamp::To(bytes) => some(MssValue::Number(bytes.into())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::{arbitrary, read};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back_the_same(configuration in arbitrary::configuration()) {
            let text = write(&configuration).unwrap();
            prop_assert_eq!(read(&text, "f"), Ok(configuration), "{}", text);
        }
    }

    #[test]
    fn the_same_configuration_is_the_same_text() {
        let text = "[[pool]]\nid = \"a\"\n\
                    [[pool.backend]]\nid = \"x\"\naddress = \"::1\"\nport = 1\n";
        let once = write(&read(text, "f").unwrap()).unwrap();
        let twice = write(&read(&once, "f").unwrap()).unwrap();
        assert_eq!(once, twice);
        assert!(!once.contains("hash_secret"));
    }
}
