/* The file of what a node knows of its cluster, and the records in it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "nodes/broker/cluster_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config;
    static const char text[] = "node.name = n1\nnode.data = /d\ncluster.secret = 0123456789abcdef\n"
                               "tls.plain = yes\n"
                               "log.topic = a partitions=6\nlog.topic = meta partitions=1\n"
                               "cluster.node = n1 id=1 peer=h:1 broker=h:2 http=h:3 rtmp=h:4\n";
    struct cluster c;
    uint64_t id;
    if (config.n_nodes == 0 && config_parse("fuzz", text, &config, NULL) != 0) {
        abort();
    }
    if (cluster_found(&c, &config, NULL) != 0) {
        return 0;
    }
    (void)cluster_decode(&c, data, size, &id, NULL);
    uint8_t *good = size >= 32 ? malloc(size) : NULL; /* with a header that fits */
    if (good != NULL) {
        memcpy(good, data, size);
        store_le32(good + 4, 0x554c4357u);
        store_le32(good + 8, CLUSTER_FILE_VERSION);
        store_le32(good + 12, (uint32_t)(size - 32));
        store_le32(good, crc32c(0, good + 4, size - 4));
        (void)cluster_decode(&c, good, size, &id, NULL);
        free(good);
    }
    cluster_close(&c);
    return 0;
}
