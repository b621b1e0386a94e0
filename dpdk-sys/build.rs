//! Finds libdpdk with pkg-config, binds an allowlist of it, and compiles the C shim that
//! bindgen writes for DPDK's `static inline` functions.

use std::env;
use std::path::PathBuf;
use std::process;

/// Functions the data plane calls; everything else stays out of the crate.
const FUNCTIONS: &[&str] = &[
    "rte_eal_init",
    "rte_eal_cleanup",
    "rte_version",
    "rte_strerror",
    "rte_socket_id",
    "rte_lcore_id",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_zmalloc_socket",
    "rte_mem_virt2memseg",
    "rte_free",
    "rte_pktmbuf_pool_create",
    "rte_mempool_free",
    "rte_mempool_avail_count",
    "rte_mempool_in_use_count",
    "rte_pktmbuf_alloc",
    "rte_pktmbuf_free",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_linearize",
    "weir_pktmbuf_free_uncached",
    "rte_eth_dev_count_avail",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_find_next",
    "rte_eth_dev_info_get",
    "rte_eth_dev_configure",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_rx_queue_setup",
    "rte_eth_tx_queue_setup",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_close",
    "rte_eth_promiscuous_enable",
    "rte_eth_allmulticast_enable",
    "rte_eth_macaddr_get",
    "rte_eth_dev_default_mac_addr_set",
    "rte_eth_link_get_nowait",
    "rte_eth_stats_get",
    "rte_eth_dev_rss_hash_conf_get",
    "rte_eth_dev_rss_reta_query",
    "rte_eth_rx_burst",
    "rte_eth_tx_burst",
    "rte_dev_probe",
    "rte_dev_iterator_init",
    "rte_log_set_global_level",
    "weir_rte_errno",
];

/// Types named in signatures that callers must be able to build.
const TYPES: &[&str] = &[
    "rte_mbuf",
    "rte_mempool",
    "rte_eth_conf",
    "rte_eth_dev_info",
    "rte_eth_rxconf",
    "rte_eth_txconf",
    "rte_eth_link",
    "rte_eth_stats",
    "rte_eth_rss_conf",
    "rte_eth_rss_reta_entry64",
    "rte_ether_addr",
];

fn main() {
    println!("cargo:rerun-if-changed=wrapper.h");
    println!("cargo:rerun-if-changed=build.rs");
    let library = match pkg_config::Config::new().atleast_version("22.11").probe("libdpdk") {
        Ok(library) => library,
        Err(error) => {
            eprintln!(
                "weir needs libdpdk 22.11 or later, found by pkg-config, and cannot find it.\n\
                 On Debian 12 or Ubuntu 24.04: apt-get install libdpdk-dev libclang-dev clang \
                 pkg-config\n\
                 Elsewhere: build DPDK as a shared library and set PKG_CONFIG_PATH.\n\
                 pkg-config said: {error}"
            );
            process::exit(1);
        }
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let shim = out.join("shim");
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(library.include_paths.iter().map(|path| format!("-I{}", path.display())))
        .clang_args(target_flags())
        .clang_arg("-DALLOW_EXPERIMENTAL_API")
        .wrap_static_fns(true)
        .wrap_static_fns_path(&shim)
        .allowlist_var("RTE_ETHER_.*_LEN")
        .allowlist_var("WEIR_.*")
        .layout_tests(false)
        .derive_default(true)
        .prepend_enum_name(false)
        .generate_comments(false)
        // Deprecated or packed-and-aligned types rustc cannot express; never named by us.
        .opaque_type("rte_mbuf|rte_mempool")
        .opaque_type("rte_arp_hdr|rte_arp_ipv4|rte_l2tpv2_.*|rte_gtp_.*");
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for kind in TYPES {
        builder = builder.allowlist_type(kind);
    }
    let bindings = builder.generate().unwrap_or_else(|error| {
        eprintln!("bindgen could not read the DPDK headers (is libclang installed?): {error}");
        process::exit(1);
    });
    bindings.write_to_file(out.join("bindings.rs")).expect("OUT_DIR is writable");

    let mut compiler = cc::Build::new();
    compiler
        .file(shim.with_extension("c"))
        .include(env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"))
        .includes(&library.include_paths)
        .define("ALLOW_EXPERIMENTAL_API", None)
        .opt_level(3)
        .warnings(false);
    for flag in target_flags() {
        compiler.flag(flag);
    }
    compiler.compile("weir_dpdk_shim");
}

/// DPDK's headers need the instruction set libdpdk was built for (SSE4.2 on x86-64).
fn target_flags() -> &'static [&'static str] {
    match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("x86_64") => &["-march=corei7"],
        _ => &[],
    }
}
