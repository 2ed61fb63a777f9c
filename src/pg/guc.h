/*
 * guc.h — every setting of the extension.
 */
#ifndef PGL_PG_GUC_H
#define PGL_PG_GUC_H

#include <stdbool.h>

typedef enum PglInUtility
{
	PGL_IN_UTILITY_ERROR,
	PGL_IN_UTILITY_ALLOW
} PglInUtility;

extern char *pgl_guc_ca_file;
extern int pgl_guc_connect_timeout; /* ms */
extern char *pgl_guc_credential_directory;
extern int pgl_guc_in_utility;
extern int pgl_guc_max_concurrency;
extern int pgl_guc_max_leases;
extern int pgl_guc_max_limits;
extern bool pgl_guc_require_quota;
extern int pgl_guc_response_max_size; /* kB */
extern int pgl_guc_timeout;           /* ms */

extern void pgl_guc_define(void);

#endif
