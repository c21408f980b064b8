/* Times as people write them. */
#include <string.h>
#include <time.h>

#include "clients/cli/cli.h"

bool cli_parse_time(const char *text, int64_t *ret_ms)
{
    struct tm tm = {0};
    uint64_t ms = 0;
    if (cli_parse_u64(text, 0, (uint64_t)INT64_MAX, &ms)) {
        *ret_ms = (int64_t)ms;
        return true;
    }
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest == NULL) {
        return false;
    }
    int64_t fraction_ms = 0;
    if (*rest == '.') {
        int64_t unit = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10) {
            fraction_ms += (*rest - '0') * unit;
        }
    }
    int64_t zone_s = 0;
    unsigned hours = 0, minutes = 0;
    int used = 0;
    if (sscanf(rest, "%*1[+-]%2u:%2u%n", &hours, &minutes, &used) == 2 && rest[used] == '\0') {
        zone_s = (int64_t)(hours * 3600 + minutes * 60) * (*rest == '-' ? -1 : 1);
    } else if (strcmp(rest, "Z") != 0 && strcmp(rest, "z") != 0) {
        return false;
    }
    *ret_ms = ((int64_t)timegm(&tm) - zone_s) * 1000 + fraction_ms;
    return true;
}
