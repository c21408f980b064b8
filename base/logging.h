/* Operational log: one line an event on stderr, `2026-01-02T03:04:05.678Z level event key=value
 * ...`. `event` names what happened in snake_case (leader_elected, part_committed); keys are
 * snake_case, string values with spaces are quoted by the caller with LOG_Q. Log where an error is
 * handled, never also where it is returned. Any thread. */
#ifndef BASE_LOGGING_H
#define BASE_LOGGING_H

/* Around a string value that may hold spaces: log_warn("x", "path=" LOG_Q, path). Control
 * characters become '?' in any case. */
#define LOG_Q "\"%s\""

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
void log_event(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(event, ...) log_event(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...)  log_event(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...)  log_event(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) log_event(LOG_DEBUG, event, __VA_ARGS__)

#endif
