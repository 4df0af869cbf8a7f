/* Holds many idle keep-alive HTTP connections to 127.0.0.1 and measures what requests cost meanwhile.
 *
 * Clients spread over many 127.x.y.z source addresses, so that neither ephemeral ports nor a cap per client address
 * is in the way. It opens --connections connections, makes one request on each, prints {"held": N} and waits
 * for a line on standard input while the harness looks at the server's memory. Then two probes of --seconds each,
 * at a fixed --rate a second whether or not the server keeps up, timed from when each request was due:
 *   "new"   connect, request, response, close;
 *   "held"  one request on a held connection, each in its turn.
 * Lastly it counts the held connections that are still open. Each phase prints one JSON object.
 */
#include "netbench.h"

#define MOST_EVENTS 512
#define RESPONSE_SIZE 2048
#define CLIENTS_AN_ADDRESS 100
#define OPENING_AT_ONCE 32
#define MOST_UNDER_WAY 2000
#define PATIENCE_NS (5 * NS_PER_S)

struct options {
    unsigned port;
    unsigned connections;
    unsigned rate;
    unsigned seconds;
    const char *path;
    const char *body;
};

enum state { CLOSED, CONNECTING, WAITING, IDLE };

struct client {
    int fd;
    enum state state;
    bool stays;       /* keep the connection after the response */
    uint64_t due;     /* when the request ought to have started */
    uint32_t address; /* the source address */
    unsigned length;
    char response[RESPONSE_SIZE];
};

struct phase {
    struct histogram latencies;
    unsigned under_way;
    uint64_t errors;
};

static struct options options = {.connections = 10000, .rate = 500, .seconds = 5, .path = "/hello", .body = ""};
static char request[512];
static int poller;

static void parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", required_argument, 0, 'p'},    {"connections", required_argument, 0, 'c'},
        {"rate", required_argument, 0, 'r'},    {"seconds", required_argument, 0, 's'},
        {"path", required_argument, 0, 'u'},    {"body", required_argument, 0, 'b'},
        {0, 0, 0, 0}};
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'p': options.port = (unsigned)number(optarg, 65535); break;
        case 'c': options.connections = (unsigned)number(optarg, 100000); break;
        case 'r': options.rate = (unsigned)number(optarg, 100000); break;
        case 's': options.seconds = (unsigned)number(optarg, 600); break;
        case 'u': options.path = optarg; break;
        case 'b': options.body = optarg; break;
        default: fail(USAGE, "usage: idle --port P [--connections N] [--rate N] [--seconds N] [--path P] [--body TEXT]");
        }
    }
    if (options.port == 0)
        fail(USAGE, "--port is missing");
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n", options.path, options.port);
}

/* Client addresses start at 127.1.0.1; 250 of them a /24 keeps clear of .0 and .255. */
static uint32_t address_of(unsigned group)
{
    return (127u << 24) + (1u << 16) + ((group / 250) << 8) + 1 + group % 250;
}

static void leave(struct client *client)
{
    close(client->fd); /* which also removes it from the poller */
    client->state = CLOSED;
}

static void lose(struct client *client, struct phase *phase, const char *why)
{
    if (phase->errors++ == 0)
        fprintf(stderr, "first failed request: %s\n", why);
    leave(client);
    phase->under_way--;
}

static void ask(struct client *client, struct phase *phase)
{
    client->length = 0;
    client->state = WAITING;
    ssize_t sent = send(client->fd, request, strlen(request), MSG_NOSIGNAL);
    if (sent != (ssize_t)strlen(request))
        lose(client, phase, sent < 0 ? strerror(errno) : "the request did not fit the socket's buffer");
}

static void dial(struct client *client, struct phase *phase)
{
    int on = 1;
    struct sockaddr_in source = loopback(client->address, 0), server = loopback(INADDR_LOOPBACK, options.port);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        fail(1, "socket: %s", strerror(errno));
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    no_delay(client->fd);
    if (bind(client->fd, (struct sockaddr *)&source, sizeof source) != 0)
        fail(1, "bind: %s", strerror(errno));
    client->state = CONNECTING;
    phase->under_way++;
    if (connect(client->fd, (struct sockaddr *)&server, sizeof server) != 0 && errno != EINPROGRESS)
        lose(client, phase, strerror(errno));
    else
        watch(poller, EPOLL_CTL_ADD, client->fd, EPOLLOUT, client);
}

static void connected(struct client *client, struct phase *phase)
{
    int problem = 0;
    socklen_t size = sizeof problem;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
    if (problem != 0) {
        lose(client, phase, strerror(problem));
        return;
    }
    watch(poller, EPOLL_CTL_MOD, client->fd, EPOLLIN, client);
    ask(client, phase);
}

/* Where the body starts once the whole response is here, else NULL; a response without a length is a wrong one. */
static const char *complete(struct client *client)
{
    client->response[client->length] = '\0';
    const char *head_end = strstr(client->response, "\r\n\r\n");
    if (head_end == NULL)
        return NULL;
    const char *field = strcasestr(client->response, "\r\ncontent-length:");
    if (strncmp(client->response, "HTTP/1.1 200", 12) != 0 || field == NULL || field > head_end)
        fail(WRONG, "expected a 200 response with Content-Length, got:\n%s", client->response);
    size_t whole = (size_t)(head_end + 4 - client->response) + strtoul(field + 17, NULL, 10);
    return client->length >= whole ? head_end + 4 : NULL;
}

static void receive(struct client *client, struct phase *phase)
{
    ssize_t length = recv(client->fd, client->response + client->length, RESPONSE_SIZE - 1 - client->length, 0);
    if (length < 0 && errno == EAGAIN)
        return;
    if (length <= 0 && client->state == WAITING) {
        lose(client, phase, length == 0 ? "the server ended the connection" : strerror(errno));
        return;
    }
    if (length <= 0) { /* an idle one was cut: it is missed at the final count */
        leave(client);
        return;
    }
    client->length += (unsigned)length;
    const char *body = complete(client);
    if (body == NULL)
        return;
    if (strcmp(body, options.body) != 0)
        fail(WRONG, "expected the body \"%s\", got \"%s\"", options.body, body);
    histogram_add(&phase->latencies, now_ns() - client->due);
    phase->under_way--;
    if (client->stays)
        client->state = IDLE;
    else
        leave(client);
}

static void turn(struct phase *phase, int patience_ms)
{
    struct epoll_event events[MOST_EVENTS];
    int ready = epoll_wait(poller, events, MOST_EVENTS, patience_ms);
    for (int i = 0; i < ready; i++) {
        struct client *client = events[i].data.ptr;
        if (client->state == CONNECTING)
            connected(client, phase);
        else if (client->state != CLOSED)
            receive(client, phase);
    }
}

static void hold(struct client *held, struct phase *phase)
{
    uint64_t last_progress = now_ns(), answered = 0;
    for (unsigned opened = 0; opened < options.connections || phase->under_way > 0;) {
        while (opened < options.connections && phase->under_way < OPENING_AT_ONCE) {
            held[opened].address = address_of(opened / CLIENTS_AN_ADDRESS);
            held[opened].stays = true;
            held[opened].due = now_ns();
            dial(&held[opened++], phase);
        }
        turn(phase, 100);
        if (phase->latencies.total + phase->errors != answered) {
            answered = phase->latencies.total + phase->errors;
            last_progress = now_ns();
        }
        if (now_ns() - last_progress > PATIENCE_NS)
            fail(BROKEN, "no answer for 5 s with %" PRIu64 " connections held", phase->latencies.total);
    }
}

static struct client *next_free(struct client *clients, unsigned count, unsigned *cursor, enum state wanted)
{
    for (unsigned tried = 0; tried < count; tried++) {
        struct client *client = &clients[*cursor];
        *cursor = (*cursor + 1) % count;
        if (client->state == wanted)
            return client;
    }
    return NULL;
}

/* Whole milliseconds until `due`; the last part of one is spun away, because a late start would count as latency. */
static int wait_ms(uint64_t due)
{
    uint64_t now = now_ns();
    return due > now ? (int)((due - now) / (NS_PER_S / 1000)) : 0;
}

/* Starts a request each 1/rate seconds; one for which nothing is free is an error, never a silent omission. */
static void probe(struct client *clients, unsigned count, enum state wanted, struct phase *phase)
{
    unsigned cursor = 0;
    uint64_t gap = NS_PER_S / options.rate, due = now_ns(), end = due + options.seconds * NS_PER_S;
    for (uint64_t now = due; now < end || (phase->under_way > 0 && now < end + PATIENCE_NS); now = now_ns()) {
        for (; due <= now && due < end; due += gap) {
            struct client *client = next_free(clients, count, &cursor, wanted);
            if (client == NULL) {
                phase->errors++;
                continue;
            }
            client->due = due;
            if (wanted == CLOSED) {
                dial(client, phase);
            } else {
                phase->under_way++;
                ask(client, phase);
            }
        }
        turn(phase, wait_ms(due < end ? due : now + NS_PER_S / 100));
    }
    phase->errors += phase->under_way;
}

static void print_phase(const char *name, const struct phase *phase)
{
    printf("{\"phase\": \"%s\", \"answered\": %" PRIu64 ", \"errors\": %" PRIu64 ", ", name, phase->latencies.total,
           phase->errors);
    histogram_print(&phase->latencies);
    puts("}");
    fflush(stdout);
}

static unsigned still_open(const struct client *held)
{
    unsigned open = 0;
    for (unsigned i = 0; i < options.connections; i++) {
        char byte;
        open += held[i].state == IDLE && recv(held[i].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
    }
    return open;
}

static void await_line(void)
{
    char line[16];
    if (fgets(line, sizeof line, stdin) == NULL)
        exit(0);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    allow_many_files();
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct client *held = reserve(options.connections, sizeof *held);
    struct client *fresh = reserve(MOST_UNDER_WAY, sizeof *fresh);
    for (unsigned i = 0; i < MOST_UNDER_WAY; i++)
        fresh[i].address = address_of(2000 + i / CLIENTS_AN_ADDRESS);
    struct phase opening = {.latencies = histogram_new()}, news = {.latencies = histogram_new()},
                 helds = {.latencies = histogram_new()};
    hold(held, &opening);
    print_phase("open", &opening);
    await_line();
    probe(fresh, MOST_UNDER_WAY, CLOSED, &news);
    print_phase("new", &news);
    probe(held, options.connections, IDLE, &helds);
    print_phase("held", &helds);
    printf("{\"phase\": \"end\", \"open\": %u}\n", still_open(held));
    fflush(stdout);
    await_line();
    return 0;
}
