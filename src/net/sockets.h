/*
 * sockets.h — libcurl's sockets in PostgreSQL's book-keeping of descriptors.
 *
 * Internal to src/net.  All of it is safe inside libcurl callbacks: no throw, no palloc.
 */
#ifndef PGL_NET_SOCKETS_H
#define PGL_NET_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>

#include <curl/curl.h>

/* What epoll knows of a socket. */
typedef struct PglSocketWatch
{
	uint32_t events; /* 0: it does not know it */
	bool is_idle;    /* libcurl does not ask for it at the moment */
} PglSocketWatch;

extern int pgl_socket_open(int family, int type, int protocol); /* -1 and errno: none to be had */
extern int pgl_socket_close(void *unused, curl_socket_t fd);    /* CURLOPT_CLOSESOCKETFUNCTION */
extern void pgl_socket_reconcile(int fd);                       /* was it closed behind our back? */
extern PglSocketWatch *pgl_socket_watch(int fd);                /* NULL: not one of ours */
extern void pgl_socket_forget_all(void); /* after a fork: they are the parent's */

#endif
