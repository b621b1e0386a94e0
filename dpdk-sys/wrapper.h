/* The DPDK headers whose allowlisted names (build.rs) become Rust. */
#include <rte_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ethdev.h>
#include <rte_version.h>

/* Macros that bindgen cannot read: 64-bit shifts. Same values, as constants. */
static const uint64_t WEIR_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t WEIR_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t WEIR_RSS_IP_TCP_UDP = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;
static const uint64_t WEIR_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t WEIR_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t WEIR_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint32_t WEIR_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint32_t WEIR_MQ_RX_NONE = RTE_ETH_MQ_RX_NONE;
static const uint16_t WEIR_LINK_UP = RTE_ETH_LINK_UP;
static const int WEIR_SOCKET_ID_ANY = SOCKET_ID_ANY;
static const uint16_t WEIR_MBUF_HEADROOM = RTE_PKTMBUF_HEADROOM;

/* rte_errno is a macro over a thread-local. */
static inline int weir_rte_errno(void) { return rte_errno; }
