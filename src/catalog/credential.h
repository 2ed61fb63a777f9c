/*
 * credential.h — credentials by reference: env:PREFIX, file:NAME, profile:NAME.
 *
 *	env:PREFIX    PREFIX_ACCESS_KEY_ID, PREFIX_SECRET_ACCESS_KEY, PREFIX_SESSION_TOKEN of the
 *server's environment ("env:AWS" is the usual AWS trio) file:NAME     file NAME in
 *pgllm.credential_directory, lines aws_access_key_id = ..., and so on; owned by the server's user
 *and closed to group and others profile:NAME  section NAME of the shared credentials file
 *(AWS_SHARED_CREDENTIALS_FILE, else
 *	              ~/.aws/credentials of the server's user), then of the config file
 *
 * Values are cached per backend, wiped on replacement, and read again when the file changed or the
 * provider rejected them.  With the file gone, the last good value stays in use (static stability).
 */
#ifndef PGL_CATALOG_CREDENTIAL_H
#define PGL_CATALOG_CREDENTIAL_H

#include "../provider/provider.h"

/*
 * The value behind a reference.  NULL when there is none, with a sentence for DETAIL in `why` that
 * never holds a secret.  Does not throw.  Valid until the next call of this module.
 */
extern const PglCredential *pgl_credential_get(const char *reference, char *why, size_t why_size);
/*
 * Read it anew because the provider rejected it; true if the value differs from the rejected one,
 * so that one more attempt makes sense.
 */
extern bool pgl_credential_refresh(const char *reference);

#endif
