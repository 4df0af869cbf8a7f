# ask.py
import socket
import sys

with socket.create_connection(("127.0.0.1", 7400)) as connection, connection.makefile("rw") as lines:
    for word in sys.argv[1:]:
        print(word, file=lines, flush=True)
        print(lines.readline(), end="")
