//! The gRPC interface of Weir's control plane: package `weir.v1`, generated from
//! `weir/v1/control.proto`, whose comments are its reference.
//!
//! Nothing but the generated code: clients and servers of any crate share one set of types.
//! Messages are also serde types, in protobuf's JSON mapping: fields are written under their
//! `.proto` names, with zeroes, and read under these or in lowerCamelCase; 64-bit numbers are
//! strings, bytes are base64; an unknown field is an error that names it. `Debug` shows no secret.

mod debug;

/// Messages, client and server of `weir.v1`.
#[expect(
    missing_docs,
    clippy::allow_attributes_without_reason,
    reason = "generated; the .proto file is the reference"
)]
pub mod v1 {
    tonic::include_proto!("weir.v1");
    include!(concat!(env!("OUT_DIR"), "/weir.v1.serde.rs"));
}

/// The compiled descriptors, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/weir.v1.bin"));

#[cfg(test)]
mod tests {
    use super::v1::{Backend, BackendState, HealthReport, PoolSnapshot, RegisterBackendReq};
    use prost::Message;

    /// Field numbers and wire types of what is published: a tag byte each, in order.
    fn tags(message: &impl Message) -> Vec<u8> {
        let bytes = message.encode_to_vec();
        let mut rest = bytes.as_slice();
        let mut tags = Vec::new();
        while let Some((tag, after)) = rest.split_first() {
            tags.push(tag >> 3);
            rest = match tag & 7 {
                0 => &after[after.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1..],
                2 => &after[1 + usize::from(after[0])..],
                wire_type => panic!("wire type {wire_type}"),
            };
        }
        tags
    }

    #[test]
    fn published_messages_keep_their_field_numbers() {
        let register = RegisterBackendReq {
            pool_id: "p".into(),
            backend_id: "b".into(),
            ip: "i".into(),
            port: 1,
            weight: 1,
            labels: [("k".to_owned(), "v".to_owned())].into(),
            readiness_probe_url: "u".into(),
            quic_server_ids: vec![vec![1]],
        };
        assert_eq!(tags(&register), [1, 2, 3, 4, 5, 6, 7, 8]);
        let report = HealthReport {
            backend_id: "b".into(),
            state: 1,
            checked_at_ns: 1,
            consecutive_pass: 1,
            consecutive_fail: 1,
            probe_latency_us: "1".into(),
            ..HealthReport::default()
        };
        assert_eq!(tags(&report), [1, 2, 3, 4, 5, 6]);
        let snapshot = PoolSnapshot {
            pool_id: "p".into(),
            version: 1,
            backends: vec![super::v1::BackendEntry::default()],
            table: Some(super::v1::MaglevTable::default()),
            ..PoolSnapshot::default()
        };
        assert_eq!(tags(&snapshot), [1, 2, 3, 4]);
    }

    #[test]
    fn json_is_protobufs_mapping_under_the_names_of_the_proto_file() {
        let backend = Backend {
            backend_id: "host-1".into(),
            state: BackendState::Healthy.into(),
            registered_at_ns: u64::MAX,
            ..Backend::default()
        };
        let json = serde_json::to_value(&backend).unwrap();
        assert_eq!(json["backend_id"], "host-1");
        assert_eq!(json["state"], "HEALTHY");
        assert_eq!(json["registered_at_ns"], "18446744073709551615");
        assert_eq!(json["weight"], 0, "zeroes are shown");
        assert_eq!(serde_json::from_value::<Backend>(json).unwrap(), backend);
        let camel =
            r#"{"backendId": "host-1", "state": 2, "registeredAtNs": 18446744073709551615}"#;
        assert_eq!(serde_json::from_str::<Backend>(camel).unwrap(), backend);
    }

    #[test]
    fn json_with_an_unknown_field_is_refused_by_name() {
        let error = serde_json::from_str::<Backend>(r#"{"wieght": 1}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `wieght`"), "{error}");
    }
}
