"""The environ of a request (PEP 3333, section "environ Variables").

A field whose name has an underscore is left out: `X_User` and `X-User` would both be HTTP_X_USER,
and a proxy that guards one of them lets the other pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..http import uridecode
from ..http.wire.grammar import split_authority

if TYPE_CHECKING:
    from ..http import Client, ServerRequest

_DEFAULT_PORT: Final = {"http": "80", "https": "443"}
_WITHOUT_PREFIX: Final = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def make_environ(request: ServerRequest, script_name: str) -> dict[str, Any]:
    """Return what the request says; the streams and the rest of `wsgi.*` are still to come.

    script_name: what stands before PATH_INFO, without "/" at its end.
    """
    client = request.client
    name, port = _server_of(request, client)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": script_name.encode().decode("latin-1"),
        "PATH_INFO": path_info(request.encoded_path, script_name),
        "QUERY_STRING": request.query or "",
        "REQUEST_URI": request.uri,
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/1.{request.minor}",
        "REMOTE_ADDR": client.address,
        "REMOTE_PORT": str(client.port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": client.scheme,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    add_fields(environ, request.input_headers.pairs)
    if client.host is not None:
        environ["HTTP_HOST"] = client.host
    return environ


def path_info(encoded_path: str, script_name: str) -> str:
    """Return the decoded path behind `script_name`, each byte as the Latin-1 character."""
    return uridecode(encoded_path).removeprefix(script_name.encode()).decode("latin-1")


def add_fields(environ: dict[str, Any], pairs: list[tuple[str, str]]) -> None:
    """Add the header's fields; those of one name become one, joined as a list."""
    for name, value in pairs:
        if "_" in name:
            continue
        key = _WITHOUT_PREFIX.get(name.lower()) or "HTTP_" + name.upper().replace("-", "_")
        if key not in environ:
            environ[key] = value
        elif key == "HTTP_COOKIE":
            environ[key] += "; " + value  # RFC 6265 section 5.4 has one line, and this between
        else:
            environ[key] += "," + value


def _server_of(request: ServerRequest, client: Client) -> tuple[str, str]:
    """Return SERVER_NAME and SERVER_PORT: where it listens, or else what the client addressed."""
    connection = request.connection
    bound = None if connection is None else connection.bound_socket
    if bound is not None and bound.port:
        return bound.address, str(bound.port)
    host = split_authority(client.host or "") or ("", None)
    return host[0] or "localhost", host[1] or _DEFAULT_PORT.get(client.scheme, "80")
