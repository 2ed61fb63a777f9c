/*
 * hostpolicy.h — may this resolved address be connected to?
 *
 * Checked after name resolution, on the very address of the connect, so a DNS answer that changes
 * between check and use cannot get around it.  Link-local (169.254/16, fe80::/10: the cloud
 * metadata services), unspecified, multicast and broadcast addresses are refused in every scope;
 * IPv4 wrapped in IPv6 (mapped, 6to4, NAT64) is judged by the IPv4 address inside.
 */
#ifndef PGL_CORE_HOSTPOLICY_H
#define PGL_CORE_HOSTPOLICY_H

#include <stdbool.h>

struct sockaddr;

typedef enum PglNetScope
{
	PGL_NET_PUBLIC,  /* only globally reachable addresses */
	PGL_NET_PRIVATE, /* also RFC 1918, RFC 6598, unique local IPv6: PrivateLink and on-premises */
	PGL_NET_LOOPBACK /* only loopback; plain http is allowed */
} PglNetScope;

extern bool pgl_hostpolicy_allows(const struct sockaddr *address, PglNetScope scope);

#endif
