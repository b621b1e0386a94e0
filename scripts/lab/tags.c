/* The lab's tagged port of a switch: a program for the kernel's traffic control, at the switch's end
 * of the node's cable. Frames to the node get the tags, the inner one first; of frames from the node
 * those with exactly these tags lose them, and all others are dropped.
 *
 * A VLAN sub-interface at the client would do the same, but not every kernel has them; programs in
 * traffic control every kernel has. Built by scripts/lab/network.sh with -DVLAN=, and, for two tags,
 * -DOUTER_VLAN= and -DOUTER_PROTOCOL=.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#define SECTION(name) __attribute__((section(name), used))
#define NETWORK_ORDER(number) ((__be16)__builtin_bswap16(number))
#define PROTOCOL_8021Q 0x8100
#define IDENTIFIER 0x0fff

static long (*skb_vlan_push)(struct __sk_buff *, __be16 protocol, __u16 tag) =
    (void *)BPF_FUNC_skb_vlan_push;
static long (*skb_vlan_pop)(struct __sk_buff *) = (void *)BPF_FUNC_skb_vlan_pop;

static inline int has_tag(struct __sk_buff *frame, __u32 protocol, __u32 identifier)
{
    return frame->vlan_present && frame->vlan_proto == NETWORK_ORDER(protocol) &&
           (frame->vlan_tci & IDENTIFIER) == identifier;
}

SECTION("egress") int to_node(struct __sk_buff *frame)
{
    if (skb_vlan_push(frame, NETWORK_ORDER(PROTOCOL_8021Q), VLAN))
        return TC_ACT_SHOT;
#ifdef OUTER_VLAN
    if (skb_vlan_push(frame, NETWORK_ORDER(OUTER_PROTOCOL), OUTER_VLAN))
        return TC_ACT_SHOT;
#endif
    return TC_ACT_OK;
}

SECTION("ingress") int from_node(struct __sk_buff *frame)
{
#ifdef OUTER_VLAN
    if (!has_tag(frame, OUTER_PROTOCOL, OUTER_VLAN) || skb_vlan_pop(frame))
        return TC_ACT_SHOT;
#endif
    if (!has_tag(frame, PROTOCOL_8021Q, VLAN) || skb_vlan_pop(frame))
        return TC_ACT_SHOT;
    return frame->vlan_present ? TC_ACT_SHOT : TC_ACT_OK;
}
