/* The one program: `weir node` runs a node, `weir worker` is what a node starts for each stream it
 * transcodes, all else is the command line. */
#include <string.h>

#include "base/fault.h"
#include "clients/cli/cli.h"
#include "media/worker.h"
#include "nodes/node.h"

#define WORKER_FD  3
#define EXIT_USAGE 2

int main(int argc, char **argv)
{
#ifdef WEIR_FAULTS
    if (!faults_begin()) {
        return EXIT_USAGE;
    }
#endif
    if (argc >= 2 && strcmp(argv[1], "node") == 0) {
        static char name[] = "weir node";
        argv[1] = name;
        return node_main(argc - 1, argv + 1);
    }
    if (argc == 2 && strcmp(argv[1], "worker") == 0) {
        return media_worker_main(WORKER_FD);
    }
    return cli_main(argc, argv);
}
