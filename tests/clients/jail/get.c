// Requests a path of a host by HTTP/1.0 and prints the answer. Reads no variable: it knows no proxy. Linked
// statically, so no library can be put under it.
//
// Usage: get HOST PORT METHOD PATH
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **given) {
    if (count != 5) {
        return 2;
    }
    struct addrinfo *found, hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(given[1], given[2], &hints, &found);
    if (error) {
        fprintf(stderr, "cannot find %s: %s\n", given[1], gai_strerror(error));
        return 1;
    }
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection, found->ai_addr, found->ai_addrlen)) {
        perror("connect");
        return 1;
    }
    dprintf(connection, "%s %s HTTP/1.0\r\nHost: %s:%s\r\n\r\n", given[3], given[4], given[1], given[2]);
    char bytes[4096], head[16] = "";
    ssize_t length;
    while ((length = read(connection, bytes, sizeof bytes)) > 0) {
        if (!*head) {
            memcpy(head, bytes, length < 15 ? length : 15);
        }
        fwrite(bytes, 1, length, stdout);
    }
    if (length < 0) {
        perror("read");
        return 1;
    }
    return strncmp(head + 9, "200", 3) ? 1 : 0;
}
