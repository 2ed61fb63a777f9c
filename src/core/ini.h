/*
 * ini.h — look a value up in an AWS-style credentials or config file.
 *
 * Sections in square brackets, "key = value" lines, comments with # or ; at the start of a line.
 * Indented lines are nested settings of the key above and are skipped.  Later duplicates win.
 */
#ifndef PGL_CORE_INI_H
#define PGL_CORE_INI_H

#include "buf.h"

/*
 * Append the value of `key` in `section` (NULL: lines before any section, or the whole file if it
 * has none) to `value`.  False if there is no such key, or the buffer is full.
 */
extern bool
pgl_ini_lookup(const char *text, size_t len, const char *section, const char *key, PglBuf *value);
extern bool pgl_ini_has_section(const char *text, size_t len, const char *section);

#endif
