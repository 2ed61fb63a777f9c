/*
 * mux.h — libcurl's multi handle of this backend, its epoll descriptor and its timer.
 *
 * Internal to src/net.  mux.c knows the multi handle, epoll and waiting; it does not know what a
 * transfer is.  One turn of the loop is pgl_mux_wait (may throw), then pgl_mux_dispatch and
 * pgl_mux_next_ended (never throw).
 */
#ifndef PGL_NET_MUX_H
#define PGL_NET_MUX_H

#include <stdbool.h>
#include <stdint.h>

#include <curl/curl.h>

extern void pgl_mux_ensure(void); /* throws when libcurl or the descriptors do not suffice */
extern bool pgl_mux_add(CURL *easy);
extern void pgl_mux_remove(CURL *easy);
extern void pgl_mux_wait(int64_t wake_us, uint32_t wait_event);
extern void pgl_mux_dispatch(void);
extern CURL *pgl_mux_next_ended(CURLcode *result); /* NULL: no more */

/* For the transfers' set-up; valid after pgl_mux_ensure. */
extern bool pgl_mux_has_http2(void);
extern bool pgl_mux_has_builtin_ca_file(void);

#endif
