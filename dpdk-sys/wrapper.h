/* The DPDK headers whose allowlisted names (build.rs) become Rust. */
#include <stddef.h>

#include <rte_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_memory.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ethdev.h>
#include <rte_version.h>

/* Macros that bindgen cannot read: 64-bit shifts. Same values, as constants. */
static const uint64_t WEIR_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t WEIR_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t WEIR_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t WEIR_RSS_IP_TCP_UDP = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;
static const uint64_t WEIR_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t WEIR_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t WEIR_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t WEIR_RSS_IPV4 = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
static const uint64_t WEIR_RSS_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t WEIR_RSS_IPV4_UDP = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t WEIR_RSS_IPV6 = RTE_ETH_RSS_IPV6 | RTE_ETH_RSS_NONFRAG_IPV6_OTHER;
static const uint64_t WEIR_RSS_IPV6_TCP = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t WEIR_RSS_IPV6_UDP = RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const uint16_t WEIR_RETA_GROUP = RTE_ETH_RETA_GROUP_SIZE;
static const uint32_t WEIR_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint32_t WEIR_MQ_RX_NONE = RTE_ETH_MQ_RX_NONE;
static const uint16_t WEIR_LINK_UP = RTE_ETH_LINK_UP;
static const int WEIR_SOCKET_ID_ANY = SOCKET_ID_ANY;
static const uint16_t WEIR_MBUF_HEADROOM = RTE_PKTMBUF_HEADROOM;

/* rte_errno is a macro over a thread-local. */
static inline int weir_rte_errno(void) { return rte_errno; }

/* Frees a packet past the calling thread's cache, straight to the pool's shared ring. */
static inline void weir_pktmbuf_free_uncached(struct rte_mbuf *segment)
{
	while (segment != NULL) {
		struct rte_mbuf *next = segment->next;
		struct rte_mbuf *freed = rte_pktmbuf_prefree_seg(segment);

		if (freed != NULL)
			rte_mempool_generic_put(freed->pool, (void *const *)&freed, 1, NULL);
		segment = next;
	}
}

/* Where the fields of an mbuf are: its markers became anonymous unions in later releases, so
 * offsets are what all of them share. */
static const size_t WEIR_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr);
static const size_t WEIR_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off);
static const size_t WEIR_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs);
static const size_t WEIR_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags);
static const size_t WEIR_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len);
static const size_t WEIR_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len);
static const size_t WEIR_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len);
