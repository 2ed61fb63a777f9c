/*
 * test_hostpolicy.c — which addresses each scope lets through, edges of the ranges included.
 */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "hostpolicy.h"

/* One letter per scope that allows the address: P public, V private, L loopback. */
static const struct
{
	const char *address;
	const char *allowed;
} cases[] = {
	{"8.8.8.8", "PV"},
	{"52.94.133.131", "PV"},
	{"9.255.255.255", "PV"},
	{"10.0.0.0", "V"},
	{"10.255.255.255", "V"},
	{"11.0.0.0", "PV"},
	{"172.15.255.255", "PV"},
	{"172.16.0.0", "V"},
	{"172.31.255.255", "V"},
	{"172.32.0.0", "PV"},
	{"192.168.0.1", "V"},
	{"192.169.0.1", "PV"},
	{"100.63.255.255", "PV"},
	{"100.64.0.1", "V"},
	{"100.127.255.255", "V"},
	{"100.128.0.0", "PV"},
	{"100.100.100.200", ""},
	{"168.63.129.16", ""},
	{"127.0.0.1", "L"},
	{"127.255.255.254", "L"},
	{"128.0.0.1", "PV"},
	{"0.0.0.0", ""},
	{"0.1.2.3", ""},
	{"169.253.255.255", "PV"},
	{"169.254.169.254", ""},
	{"169.254.170.2", ""},
	{"169.255.0.0", "PV"},
	{"192.0.0.8", ""},
	{"192.0.2.1", ""},
	{"192.88.99.1", ""},
	{"198.17.255.255", "PV"},
	{"198.18.0.1", ""},
	{"198.19.255.255", ""},
	{"198.20.0.0", "PV"},
	{"198.51.100.7", ""},
	{"203.0.113.7", ""},
	{"223.255.255.255", "PV"},
	{"224.0.0.1", ""},
	{"239.255.255.255", ""},
	{"240.0.0.1", ""},
	{"255.255.255.255", ""},
	{"::", ""},
	{"::1", "L"},
	{"::2", ""},
	{"::127.0.0.1", ""},
	{"::ffff:8.8.8.8", "PV"},
	{"::ffff:10.1.2.3", "V"},
	{"::ffff:127.0.0.1", "L"},
	{"::ffff:169.254.169.254", ""},
	{"::ffff:0:8.8.8.8", ""},
	{"64:ff9b::8.8.8.8", "PV"},
	{"64:ff9b::10.0.0.1", "V"},
	{"64:ff9b::127.0.0.1", ""},
	{"64:ff9b::169.254.169.254", ""},
	{"64:ff9b:1::8.8.8.8", ""},
	{"2002:808:808::1", "PV"},
	{"2002:a00:1::1", "V"},
	{"2002:7f00:1::1", ""},
	{"2002:a9fe:a9fe::1", ""},
	{"2600:1f18::1", "PV"},
	{"2a05:d018::1", "PV"},
	{"2001:0:1::1", ""},
	{"2001:200::1", "PV"},
	{"2001:4860:4860::8888", "PV"},
	{"2001:db8::1", ""},
	{"3fff:fff::1", ""},
	{"3fff:1000::1", "PV"},
	{"4000::1", ""},
	{"100::1", ""},
	{"fc00::1", "V"},
	{"fd12:3456::1", "V"},
	{"fd00:ec2::254", ""},
	{"fd20:ce::254", ""},
	{"fe00::1", ""},
	{"fe80::1", ""},
	{"febf::1", ""},
	{"fec0::1", ""},
	{"ff02::1", ""},
};

static void
list_scopes(const struct sockaddr *address, char out[4])
{
	char *end = out;

	if (pgl_hostpolicy_allows(address, PGL_NET_PUBLIC))
		*end++ = 'P';
	if (pgl_hostpolicy_allows(address, PGL_NET_PRIVATE))
		*end++ = 'V';
	if (pgl_hostpolicy_allows(address, PGL_NET_LOOPBACK))
		*end++ = 'L';
	*end = '\0';
}

static void
test_addresses(void)
{
	for (size_t i = 0; i < COUNT_OF(cases); i++)
	{
		struct sockaddr_in in = {.sin_family = AF_INET};
		struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
		const struct sockaddr *address = (const struct sockaddr *) &in;
		char allowed[4] = "?";

		if (inet_pton(AF_INET6, cases[i].address, &in6.sin6_addr) == 1)
			address = (const struct sockaddr *) &in6;
		else if (inet_pton(AF_INET, cases[i].address, &in.sin_addr) != 1)
			address = NULL;
		if (address != NULL)
			list_scopes(address, allowed);
		CHECK_STR(allowed, cases[i].allowed, "scopes of %s", cases[i].address);
	}
}

void
test_hostpolicy(void)
{
	struct sockaddr other = {.sa_family = AF_UNIX};
	char allowed[4];

	unit_suite("hostpolicy");
	test_addresses();
	list_scopes(&other, allowed);
	CHECK_STR(allowed, "", "other address families are refused");
}
