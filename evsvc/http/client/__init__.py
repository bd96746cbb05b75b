"""The client's side of HTTP: a connection, and the requests that it makes."""
