/* Which shards of a node a question is for (base/shard.h), and one answer out of those of all. */
#ifndef CLIENTS_CLI_ASK_SHARDS_H
#define CLIENTS_CLI_ASK_SHARDS_H

#include <stdbool.h>

#include "proto/messages.h"

/* The question is for all shards; else *ret_shard has the one. `groups_partitions` of topic
 * `groups`. */
bool ask_is_for_all(enum message_type type, const ProtobufCMessage *question, uint32_t n_shards,
                    uint32_t groups_partitions, uint32_t *ret_shard);
/* Adds what another shard says to the answer of the first one, and frees it. WEIR_ENOMEM: then it
 * is as it was. */
int ask_merge(ProtobufCMessage *first, ProtobufCMessage *other);
/* Once all are merged: replicas in the order in which one shard would have named them. */
void ask_merged(ProtobufCMessage *first, uint32_t n_shards);

#endif
