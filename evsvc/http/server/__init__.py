"""The server's side of HTTP: bound sockets, connections, requests and how they are answered."""
