/* A closed-loop generator for request/reply protocols over TCP on 127.0.0.1.
 *
 * Each connection keeps --inflight copies of one prebuilt message under way: every reply received releases one
 * message more. Standard input gives the messages, one pair a line, in hexadecimal: "message reply"; connection i uses
 * pair i modulo the number of pairs. Every byte of every reply is compared with what was expected.
 *
 * Prints one JSON object; "silent" counts connections whose oldest message waited for half of the time or more. Bounded by --seconds; exits at the first wrong byte or lost connection.
 */
#include "netbench.h"

#define READ_SIZE 65536u
#define MOST_EVENTS 256
#define MOST_PAIRS 256
#define MOST_BYTES 16384u

struct options {
    unsigned port;
    unsigned connections;
    unsigned inflight;
    unsigned seconds;
};

struct pair {
    uint8_t *out;   /* the message, repeated `inflight` times */
    size_t message; /* bytes of one message */
    uint8_t *in;    /* the reply, repeated to cover any read at any phase */
    size_t reply;   /* bytes of one reply */
};

struct connection {
    int fd;
    const struct pair *pair;
    size_t unsent;     /* bytes of released messages not yet taken by the kernel */
    size_t out_phase;  /* offset into pair->out of the next byte to send */
    size_t in_phase;   /* bytes of the current reply already received */
    uint64_t *started; /* when each message under way was released, a ring */
    unsigned oldest;   /* where the ring's oldest message is */
    bool wants_write;
};

static struct options parse(int argc, char **argv)
{
    static const struct option names[] = {{"port", required_argument, 0, 'p'},
                                          {"connections", required_argument, 0, 'c'},
                                          {"inflight", required_argument, 0, 'i'},
                                          {"seconds", required_argument, 0, 's'},
                                          {0, 0, 0, 0}};
    struct options options = {.connections = 64, .inflight = 1, .seconds = 5};
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (name == 'p')
            options.port = (unsigned)number(optarg, 65535);
        else if (name == 'c')
            options.connections = (unsigned)number(optarg, 10000);
        else if (name == 'i')
            options.inflight = (unsigned)number(optarg, 1024);
        else if (name == 's')
            options.seconds = (unsigned)number(optarg, 3600);
        else
            fail(USAGE, "usage: loadgen --port P [--connections N] [--inflight N] [--seconds N] < pairs");
    }
    if (options.port == 0)
        fail(USAGE, "--port is missing");
    return options;
}

static size_t from_hex(const char *text, uint8_t *bytes)
{
    size_t length = strlen(text) / 2;
    if (length == 0 || strlen(text) % 2 != 0)
        fail(USAGE, "expected pairs of hexadecimal digits, got \"%s\"", text);
    for (size_t i = 0; i < length; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1)
            fail(USAGE, "not hexadecimal: \"%s\"", text);
        bytes[i] = (uint8_t)byte;
    }
    return length;
}

static uint8_t *repeated(const uint8_t *bytes, size_t length, size_t atleast)
{
    uint8_t *all = reserve(atleast + length, 1);
    for (size_t i = 0; i < atleast + length; i++)
        all[i] = bytes[i % length];
    return all;
}

static unsigned read_pairs(struct pair *pairs, unsigned inflight)
{
    static char message[2 * MOST_BYTES + 1], reply[2 * MOST_BYTES + 1];
    static uint8_t bytes[MOST_BYTES];
    unsigned count = 0;
    while (count < MOST_PAIRS && scanf("%32768s %32768s", message, reply) == 2) {
        struct pair *pair = &pairs[count++];
        pair->message = from_hex(message, bytes);
        pair->out = repeated(bytes, pair->message, pair->message * inflight);
        pair->reply = from_hex(reply, bytes);
        pair->in = repeated(bytes, pair->reply, READ_SIZE);
    }
    if (count == 0)
        fail(USAGE, "no message on standard input");
    return count;
}

static void open_connection(struct connection *connection, const struct options *options, const struct pair *pair)
{
    struct sockaddr_in server = loopback(INADDR_LOOPBACK, options->port);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&server, sizeof server) != 0)
        fail(BROKEN, "connect: %s", strerror(errno));
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    no_delay(connection->fd);
    connection->pair = pair;
    connection->started = reserve(options->inflight, sizeof(uint64_t));
}

static void send_released(int poller, struct connection *connection, unsigned inflight)
{
    const struct pair *pair = connection->pair;
    size_t whole = pair->message * inflight;
    while (connection->unsent > 0) {
        size_t run = whole - connection->out_phase;
        if (run > connection->unsent)
            run = connection->unsent;
        ssize_t sent = send(connection->fd, pair->out + connection->out_phase, run, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            break;
        if (sent < 0)
            fail(BROKEN, "send: %s", strerror(errno));
        connection->unsent -= (size_t)sent;
        connection->out_phase = (connection->out_phase + (size_t)sent) % whole;
    }
    if (connection->wants_write != (connection->unsent > 0)) {
        connection->wants_write = connection->unsent > 0;
        watch(poller, EPOLL_CTL_MOD, connection->fd, connection->wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN, connection);
    }
}

static void check(const struct connection *connection, const uint8_t *received, size_t length)
{
    if (memcmp(received, connection->pair->in + connection->in_phase, length) == 0)
        return;
    size_t at = 0;
    while (received[at] == connection->pair->in[connection->in_phase + at])
        at++;
    fail(WRONG, "wrong reply: byte %zu is 0x%02x, expected 0x%02x",
         (connection->in_phase + at) % connection->pair->reply, received[at],
         connection->pair->in[connection->in_phase + at]);
}

/* Reads what has arrived, once, and releases one message for every reply that it completed. */
static void receive(struct connection *connection, unsigned inflight, struct histogram *latencies)
{
    static uint8_t buffer[READ_SIZE];
    ssize_t length = recv(connection->fd, buffer, sizeof buffer, 0);
    if (length < 0 && errno == EAGAIN)
        return;
    if (length <= 0)
        fail(BROKEN, "the server ended a connection: %s", length == 0 ? "end of stream" : strerror(errno));
    check(connection, buffer, (size_t)length);
    size_t received = connection->in_phase + (size_t)length;
    unsigned replies = (unsigned)(received / connection->pair->reply);
    connection->in_phase = received % connection->pair->reply;
    uint64_t now = now_ns();
    for (unsigned i = 0; i < replies; i++) {
        histogram_add(latencies, now - connection->started[connection->oldest]);
        connection->started[connection->oldest] = now;
        connection->oldest = (connection->oldest + 1) % inflight;
    }
    connection->unsent += replies * connection->pair->message;
}

static void start(int poller, struct connection *connection, unsigned inflight)
{
    uint64_t now = now_ns();
    for (unsigned i = 0; i < inflight; i++)
        connection->started[i] = now;
    connection->unsent = connection->pair->message * inflight;
    watch(poller, EPOLL_CTL_ADD, connection->fd, EPOLLIN, connection);
    send_released(poller, connection, inflight);
}

int main(int argc, char **argv)
{
    struct options options = parse(argc, argv);
    struct pair pairs[MOST_PAIRS];
    unsigned known = read_pairs(pairs, options.inflight);
    struct connection *connections = reserve(options.connections, sizeof *connections);
    struct histogram latencies = histogram_new();
    allow_many_files();
    int poller = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < options.connections; i++)
        open_connection(&connections[i], &options, &pairs[i % known]);
    uint64_t began = now_ns(), end = began + options.seconds * NS_PER_S, now = began;
    for (unsigned i = 0; i < options.connections; i++)
        start(poller, &connections[i], options.inflight);
    while ((now = now_ns()) < end) {
        struct epoll_event events[MOST_EVENTS];
        int ready = epoll_wait(poller, events, MOST_EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            receive(connection, options.inflight, &latencies);
            send_released(poller, connection, options.inflight);
        }
    }
    unsigned silent = 0;
    for (unsigned i = 0; i < options.connections; i++)
        silent += connections[i].started[connections[i].oldest] < began + (end - began) / 2;
    printf("{\"messages\": %" PRIu64 ", \"seconds\": %.6f, \"silent\": %u, ", latencies.total,
           (double)(now - began) / NS_PER_S, silent);
    histogram_print(&latencies);
    puts("}");
    return 0;
}
