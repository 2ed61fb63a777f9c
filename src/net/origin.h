/*
 * origin.h — transfers by the server they go to, until their request is on its way.
 *
 * Internal to src/net; no function throws or pallocs.
 */
#ifndef PGL_NET_ORIGIN_H
#define PGL_NET_ORIGIN_H

#include "transfer.h"

extern PglOrigin *pgl_origin_find(const PglHttpRequest *request); /* NULL: out of memory */
extern bool pgl_origin_has_room(const PglOrigin *origin);
extern void pgl_origin_enter(PglTransfer *transfer);          /* as its state says */
extern void pgl_origin_note_connected(PglTransfer *transfer); /* safe in libcurl callbacks */
extern void pgl_origin_leave(PglTransfer *transfer);
extern PglTransfer *pgl_origin_next_admissible(void);                  /* NULL: none */
extern PglTransfer *pgl_origin_next_stranded(const PglOrigin *origin); /* NULL: none */
extern void pgl_origin_forget_all(void); /* after a fork: they are the parent's */

#endif
