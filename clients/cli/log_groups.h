/* weir log groups: log_groups.c (what is there) and log_groups_change.c (where a group stands is
 * changed: only while it has no members). */
#ifndef CLIENTS_CLI_LOG_GROUPS_H
#define CLIENTS_CLI_LOG_GROUPS_H

#include <jansson.h>

#include "clients/cli/ask.h"

#define GROUP_SETTINGS_MAX 64

enum group_where { GROUP_AT_OFFSET, GROUP_AT_BEGIN, GROUP_AT_END, GROUP_AT_TIME };

/* One --set. */
struct group_setting {
    char topic[CONFIG_NAME_MAX];
    bool has_partition; /* else all */
    uint32_t partition;
    enum group_where where;
    int64_t value; /* offset, or ms since 1970 */
};

/* TOPIC[/PARTITION]=OFFSET|begin|end|time:TIME */
bool group_setting_parse(const char *text, struct group_setting *ret_setting);

/* Partitions of a topic, by any node's metadata; 0: not known. */
uint32_t group_topic_partitions(struct ask *ask, const char *topic);

/* Commits what the settings say, the last one of a partition; all of it, or (more than
 * GROUP_CHANGE_MAX partitions) that many at a time. Printed, or added to the object `out`. */
#define GROUP_CHANGE_MAX 1024
enum cli_exit group_set(struct ask *ask, char *group, const struct group_setting *settings,
                        unsigned n_settings, json_t *out);
/* Removes all that is committed. */
enum cli_exit group_delete(struct ask *ask, char *group, json_t *out);

#endif
