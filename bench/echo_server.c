/* An epoll echo server on 127.0.0.1, one thread: as little as an echo can cost, hence the limit to compare with.
 *
 * It only ever serves the generator, whose window is smaller than the socket buffers, so a short write is an error
 * and ends the connection. Runs until it is terminated.
 */
#include "netbench.h"

#define BACKLOG 4096
#define MOST_EVENTS 256
#define READ_SIZE 65536

static int listen_on(unsigned port)
{
    struct sockaddr_in address = loopback(INADDR_LOOPBACK, port);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, BACKLOG) != 0)
        fail(1, "listen on %u: %s", port, strerror(errno));
    return listener;
}

static void accept_all(int poller, int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        no_delay(fd);
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static void echo(int fd)
{
    static uint8_t buffer[READ_SIZE];
    ssize_t length = recv(fd, buffer, sizeof buffer, 0);
    if (length < 0 && errno == EAGAIN)
        return;
    if (length <= 0 || send(fd, buffer, (size_t)length, MSG_NOSIGNAL) != length)
        close(fd);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        fail(USAGE, "usage: echo_server PORT");
    allow_many_files();
    int listener = listen_on((unsigned)number(argv[1], 65535)), poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event listening = {.events = EPOLLIN, .data.fd = listener}, events[MOST_EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &listening);
    for (;;) {
        int ready = epoll_wait(poller, events, MOST_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_all(poller, listener);
            else
                echo(events[i].data.fd);
        }
    }
}
