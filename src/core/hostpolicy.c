/*
 * hostpolicy.c — may this resolved address be connected to?
 *
 * Every address falls into one class; the scope of the shard says which classes it may reach.  The
 * tables follow the IANA special-purpose registries for IPv4 and IPv6.  What is not known to be
 * fine is refused: IPv6 outside 2000::/3 is not global unicast, whatever it is.
 *
 * Cloud platforms also serve metadata and credentials on a few addresses outside the link-local
 * ranges.  Those are refused one by one, in every scope: they answer anyone on the host.
 */
#include "hostpolicy.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

typedef enum AddressClass
{
	ADDRESS_GLOBAL,
	ADDRESS_PRIVATE,
	ADDRESS_LOOPBACK,
	ADDRESS_REFUSED
} AddressClass;

typedef struct Ipv4Range
{
	uint32_t base;
	int prefix;
	AddressClass class;
} Ipv4Range;

typedef struct Ipv6Range
{
	unsigned char base[16];
	int prefix;
	AddressClass class;
} Ipv6Range;

#define IPV4(a, b, c, d) \
	(((uint32_t) (a) << 24) | ((uint32_t) (b) << 16) | ((uint32_t) (c) << 8) | (uint32_t) (d))

/* The first match decides; what matches nothing is global. */
static const Ipv4Range ipv4_ranges[] = {
	{IPV4(100, 100, 100, 200), 32, ADDRESS_REFUSED}, /* metadata of Alibaba Cloud */
	{IPV4(168, 63, 129, 16), 32, ADDRESS_REFUSED},   /* platform services of Azure */
	{IPV4(127, 0, 0, 0), 8, ADDRESS_LOOPBACK},
	{IPV4(10, 0, 0, 0), 8, ADDRESS_PRIVATE},     /* RFC 1918 */
	{IPV4(172, 16, 0, 0), 12, ADDRESS_PRIVATE},  /* RFC 1918 */
	{IPV4(192, 168, 0, 0), 16, ADDRESS_PRIVATE}, /* RFC 1918 */
	{IPV4(100, 64, 0, 0), 10, ADDRESS_PRIVATE},  /* RFC 6598, shared with the carrier */
	{IPV4(0, 0, 0, 0), 8, ADDRESS_REFUSED},      /* this network; 0.0.0.0 connects to loopback */
	{IPV4(169, 254, 0, 0), 16, ADDRESS_REFUSED}, /* link-local, metadata services */
	{IPV4(192, 0, 0, 0), 24, ADDRESS_REFUSED},   /* IETF protocol assignments */
	{IPV4(192, 0, 2, 0), 24, ADDRESS_REFUSED},   /* documentation */
	{IPV4(198, 51, 100, 0), 24, ADDRESS_REFUSED},
	{IPV4(203, 0, 113, 0), 24, ADDRESS_REFUSED},
	{IPV4(192, 88, 99, 0), 24, ADDRESS_REFUSED}, /* former 6to4 relays */
	{IPV4(198, 18, 0, 0), 15, ADDRESS_REFUSED},  /* benchmarking */
	{IPV4(224, 0, 0, 0), 4, ADDRESS_REFUSED},    /* multicast */
	{IPV4(240, 0, 0, 0), 4, ADDRESS_REFUSED},    /* reserved, and the broadcast address */
};

/* The first match decides; what matches nothing is refused. */
static const Ipv6Range ipv6_ranges[] = {
	{{[15] = 1}, 128, ADDRESS_LOOPBACK},
	{{0xFD, 0x00, 0x0E, 0xC2}, 32, ADDRESS_REFUSED}, /* metadata, DNS and time of Amazon EC2 */
	{{0xFD, 0x20, 0x00, 0xCE, [14] = 0x02, [15] = 0x54}, 128, ADDRESS_REFUSED}, /* Google Cloud */
	{{0xFC}, 7, ADDRESS_PRIVATE},                                               /* unique local */
	{{0x20, 0x01}, 23, ADDRESS_REFUSED},             /* IETF assignments: Teredo and others */
	{{0x20, 0x01, 0x0D, 0xB8}, 32, ADDRESS_REFUSED}, /* documentation */
	{{0x3F, 0xFF}, 20, ADDRESS_REFUSED},             /* documentation */
	{{0x20}, 3, ADDRESS_GLOBAL},
};

/* Prefixes of 96 or fewer bits behind which four bytes are an IPv4 address. */
static const struct
{
	unsigned char base[16];
	int prefix; /* a multiple of eight */
	bool local; /* the kernel turns it into IPv4, so loopback inside is loopback */
} ipv4_wrappers[] = {
	{{[10] = 0xFF, [11] = 0xFF}, 96, true}, /* mapped */
	{{0x00, 0x64, 0xFF, 0x9B}, 96, false},  /* NAT64 */
	{{0x20, 0x02}, 16, false},              /* 6to4 */
};

static AddressClass
classify_ipv4(uint32_t address)
{
	for (size_t i = 0; i < sizeof(ipv4_ranges) / sizeof(ipv4_ranges[0]); i++)
	{
		const Ipv4Range *range = &ipv4_ranges[i];

		if (((address ^ range->base) >> (32 - range->prefix)) == 0)
			return range->class;
	}
	return ADDRESS_GLOBAL;
}

static bool
has_prefix(const unsigned char *address, const unsigned char *base, int prefix)
{
	int bytes = prefix / 8;
	int bits = prefix % 8;

	if (memcmp(address, base, (size_t) bytes) != 0)
		return false;
	return bits == 0 || ((address[bytes] ^ base[bytes]) >> (8 - bits)) == 0;
}

static AddressClass
classify_ipv6(const unsigned char *address)
{
	for (size_t i = 0; i < sizeof(ipv4_wrappers) / sizeof(ipv4_wrappers[0]); i++)
	{
		const unsigned char *inner = address + ipv4_wrappers[i].prefix / 8;
		AddressClass class;

		if (!has_prefix(address, ipv4_wrappers[i].base, ipv4_wrappers[i].prefix))
			continue;
		class = classify_ipv4(IPV4(inner[0], inner[1], inner[2], inner[3]));
		/* A translator's or relay's loopback is not ours. */
		if (class == ADDRESS_LOOPBACK && !ipv4_wrappers[i].local)
			return ADDRESS_REFUSED;
		return class;
	}
	for (size_t i = 0; i < sizeof(ipv6_ranges) / sizeof(ipv6_ranges[0]); i++)
	{
		if (has_prefix(address, ipv6_ranges[i].base, ipv6_ranges[i].prefix))
			return ipv6_ranges[i].class;
	}
	return ADDRESS_REFUSED;
}

/* The structs are copied out, as the caller's storage need not be aligned for them. */
static AddressClass
classify_address(const struct sockaddr *address)
{
	sa_family_t family;

	memcpy(&family, (const char *) address + offsetof(struct sockaddr, sa_family), sizeof(family));
	if (family == AF_INET)
	{
		struct sockaddr_in in;

		memcpy(&in, address, sizeof(in));
		return classify_ipv4(ntohl(in.sin_addr.s_addr));
	}
	if (family == AF_INET6)
	{
		struct sockaddr_in6 in6;

		memcpy(&in6, address, sizeof(in6));
		return classify_ipv6(in6.sin6_addr.s6_addr);
	}
	return ADDRESS_REFUSED;
}

bool
pgl_hostpolicy_allows(const struct sockaddr *address, PglNetScope scope)
{
	AddressClass class = classify_address(address);

	switch (scope)
	{
		case PGL_NET_PUBLIC:
			return class == ADDRESS_GLOBAL;
		case PGL_NET_PRIVATE:
			return class == ADDRESS_GLOBAL || class == ADDRESS_PRIVATE;
		case PGL_NET_LOOPBACK:
			return class == ADDRESS_LOOPBACK;
	}
	return false;
}
