"""nginx and HAProxy in front of a server of ours, on listening sockets that they inherit."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.dns_daemons import Daemon

NGINX = """
daemon off;
user {user};
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream ours {{ server 127.0.0.1:{upstream}; keepalive 8; {pool} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://ours;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      {options}
    }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 200
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  {defaults}
frontend front
  bind fd@{fd}
  default_backend ours
backend ours
  {backend}
  server one 127.0.0.1:{upstream} {server}
"""


@contextmanager
def nginx_before(
    path: str, upstream: int, folder: Path, *options: str, pool: str = ""
) -> Iterator[str]:
    """Run nginx with `options` in its location, `pool` in its upstream; gives its URL."""
    user = pwd.getpwuid(os.getuid()).pw_name
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        port, fd = listening.getsockname()[1], listening.fileno()
        file = folder / "nginx.conf"
        text = NGINX.format(
            folder=folder,
            user=user,
            upstream=upstream,
            port=port,
            options=" ".join(options),
            pool=pool,
        )
        file.write_text(text)
        command = [path, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(file)]
        environment = {**os.environ, "NGINX": f"{fd};"}
        daemon = Daemon(command, env=environment, pass_fds=(fd,))
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            daemon.close()


@contextmanager
def haproxy_before(
    path: str,
    upstream: int,
    folder: Path,
    *,
    defaults: str = "",
    backend: str = "",
    server: str = "",
) -> Iterator[str]:
    """Run HAProxy with further lines in these sections; gives its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        file = folder / "haproxy.cfg"
        text = HAPROXY.format(
            defaults=defaults,
            fd=listening.fileno(),
            backend=backend,
            upstream=upstream,
            server=server,
        )
        file.write_text(text)
        daemon = Daemon([path, "-db", "-f", str(file)], pass_fds=(listening.fileno(),))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            daemon.close()
