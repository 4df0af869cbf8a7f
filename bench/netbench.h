/* What the generators share: a clock, a histogram of latencies, addresses and bounded failure. */
#ifndef NETBENCH_H
#define NETBENCH_H

#define _GNU_SOURCE /* accept4, IP_BIND_ADDRESS_NO_PORT */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull
#define NS_PER_US 1000ull

/* Exit statuses: 2 the command line, 3 the server broke a connection or refused it, 4 it answered wrongly. */
enum { USAGE = 2, BROKEN = 3, WRONG = 4 };

__attribute__((noreturn, format(printf, 2, 3))) static inline void fail(int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(status);
}

static inline uint64_t now_ns(void)
{
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return (uint64_t)moment.tv_sec * NS_PER_S + (uint64_t)moment.tv_nsec;
}

static inline void *reserve(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail(1, "out of memory");
    return memory;
}

/* One counter a microsecond up to a second: exact percentiles without sorting; 8 MiB. */
#define HISTOGRAM_US 1000000u

struct histogram {
    uint64_t *counts;
    uint64_t total;
    uint64_t worst_us;
};

static inline struct histogram histogram_new(void)
{
    return (struct histogram){.counts = reserve(HISTOGRAM_US + 1, sizeof(uint64_t))};
}

static inline void histogram_add(struct histogram *histogram, uint64_t ns)
{
    uint64_t us = ns / NS_PER_US;
    histogram->counts[us < HISTOGRAM_US ? us : HISTOGRAM_US]++;
    histogram->total++;
    if (us > histogram->worst_us)
        histogram->worst_us = us;
}

/* The smallest latency, in microseconds, that at least `share` of all did not exceed. */
static inline uint64_t histogram_percentile(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)histogram->total + 0.999999), seen = 0;
    for (uint64_t us = 0; us < HISTOGRAM_US; us++) {
        seen += histogram->counts[us];
        if (wanted > 0 && seen >= wanted)
            return us;
    }
    return histogram->worst_us;
}

static inline void histogram_print(const struct histogram *histogram)
{
    printf("\"p50_us\": %" PRIu64 ", \"p95_us\": %" PRIu64 ", \"p99_us\": %" PRIu64 ", \"max_us\": %" PRIu64,
           histogram_percentile(histogram, 0.50), histogram_percentile(histogram, 0.95),
           histogram_percentile(histogram, 0.99), histogram->worst_us);
}

static inline struct sockaddr_in loopback(uint32_t host, unsigned port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {.s_addr = htonl(host)}};
}

static inline void allow_many_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static inline void no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline void watch(int poller, int operation, int fd, uint32_t events, void *owner)
{
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(poller, operation, fd, &event) != 0)
        fail(1, "epoll_ctl: %s", strerror(errno));
}

static inline unsigned long number(const char *text, unsigned long most)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 1 || value > most)
        fail(USAGE, "%s: expected a whole number from 1 to %lu", text, most);
    return value;
}

#endif
