/*
 * bedrock.h — what the files of the Bedrock provider share; nobody else includes it.
 *
 *	bedrock.c          the provider's table of functions, and signing
 *	bedrock_request.c  a chat request -> URL and JSON body of Converse
 *	bedrock_reply.c    HTTP reply -> text, stop reason and token counts
 *	bedrock_error.c    HTTP error -> cause
 */
#ifndef PGL_PROVIDER_BEDROCK_H
#define PGL_PROVIDER_BEDROCK_H

#include "provider.h"

extern const char *pgl_bedrock_check_parameters(const char *json);
extern bool pgl_bedrock_build(const PglProviderTarget *target, const PglChatRequest *request,
							  PglOutgoing *out, const char **why);
extern void pgl_bedrock_read(const PglHttpReply *http, PglReply *out);
/* Any status but 200.  `out` is fresh; fills cause, error_name and message. */
extern void pgl_bedrock_read_error(const PglHttpReply *http, PglReply *out);
/* Cause of an error by its name ("" if none), HTTP status and message.  Never PGL_CAUSE_NONE. */
extern PglCause pgl_bedrock_classify(int status, const char *name, const char *message);

#endif
