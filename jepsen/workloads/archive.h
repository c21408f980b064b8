/* The end: all that was broadcast, read back from every edge.
 *
 * Publishers take leave; each channel is published once more for a moment, so that whatever was
 * left behind goes on or is ended, and that is only good if it works; then every edge is asked for
 * the broadcasts of every channel, the playlists of each and every segment.
 *
 *   :broadcasts {:edge "n1", :channel 0} -> :broadcasts [["63f5.." duration-ms] ..] newest first
 *   :vod {:edge "n1", :channel 0, :broadcast "63f5..", :rendition "source"}
 *     -> :hash of the playlist, :segments [[msn size crc [session ..]] ..]; size and crc nil: it
 * could not be read; :missing true: there is no such playlist */
#ifndef JEPSEN_WORKLOADS_ARCHIVE_H
#define JEPSEN_WORKLOADS_ARCHIVE_H

#include "jepsen/workloads/stage.h"

struct archive;
int archive_new(struct stage *s, struct archive **ret_archive, struct error *err);
void archive_free(struct archive *a); /* NULL is allowed */
void archive_begin(struct archive *a);
void archive_sweep(struct archive *a); /* NULL is allowed */

#endif
