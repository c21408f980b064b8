#include "nodes/ingest/reach.h"

#define SILENT_NS    1000000000u /* two answers missed: not one that was late */
#define SILENT_LOOKS (2000 / REACH_LOOK_MS)

bool reach_look(struct reach *r, uint64_t silent_ns)
{
    bool was = r->cut_off;
    r->silent = silent_ns > SILENT_NS ? r->silent + 1 : 0;
    r->cut_off = r->silent > SILENT_LOOKS;
    return r->cut_off != was;
}
