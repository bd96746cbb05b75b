"""Answers requests with the files of a tree."""

from __future__ import annotations

import errno
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING

from ...core import EVBUF_FS_CLOSE_ON_FREE, EvBuffer, FileSegment
from ...core.closing import Closing
from ...core.errors import ArgumentError
from ..query import encode_uri, htmlescape, uridecode
from ..wire.codings import acceptable
from ..wire.headers import Headers
from . import conditions
from .content_types import content_type_of
from .ranges import NotSatisfiable, parse_ranges
from .tree import OpenFile, Tree

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ..server.request import ServerRequest
    from .tree import Follow

logger = logging.getLogger("evsvc.http")

_SUFFIXES = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}

SMALL_BYTES = 16 * 1024
"""A file of less than this is read at once and goes out with its head; a larger one is sent from
where it lies.  So many pipelined requests keep no more descriptors than connections may."""

# The process, or the system, has not what it takes: that passes.
_SCARCE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))

MAX_LISTED = 10_000
"""How many names a listing shows; reading a larger folder would hold the loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryOptions:
    """How a tree of files is served.  Raises ArgumentError for an unknown coding, and what is no
    name, header value or extension.

    index:           the file that answers for a folder; None for none.
    listing:         whether a folder without it is answered with its names.
    follow_symlinks: whether symbolic links are followed: False is never, "within" where they lead
                     to what is in the tree, True wherever they lead.
    hidden:          whether names that begin with a dot are found, or which: (".well-known",).
    precompressed:   codings whose siblings (`.gz`, `.zst`, `.br`) are sent to who takes them.
    cache_control:   the Cache-Control of all files; None for none.
    content_types:   types by extension, such as {".log": "text/plain"}, beside those known.
    """

    index: str | None = "index.html"
    listing: bool = False
    follow_symlinks: Follow = False
    hidden: bool | Collection[str] = False
    precompressed: Sequence[str] = ()
    cache_control: str | None = None
    content_types: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for coding in self.precompressed:
            if coding not in _SUFFIXES:
                raise ArgumentError(f"a coding is one of {', '.join(_SUFFIXES)}: {coding!r}")
        if self.index is not None and (self.index in ("", ".", "..") or "/" in self.index):
            raise ArgumentError(f"the index is the name of a file: {self.index!r}")
        if isinstance(self.hidden, str):
            raise ArgumentError(f"hidden is True, False, or a list of names: {self.hidden!r}")
        if self.cache_control is not None:
            Headers((("Cache-Control", self.cache_control),))
        for extension, kind in self.content_types.items():
            if not extension.startswith(".") or extension != extension.lower():
                raise ArgumentError(f"an extension is as in '.txt': {extension!r}")
            Headers((("Content-Type", kind),))


class FileHandler(Closing):
    """A request callback that answers with the files below `root`: `handler(request, arg)`.

    prefix: the path, with "/" at its end, whose rest is looked for in the tree.  Only GET and HEAD
    are answered; what cannot be seen is 404, whatever the reason.  Raises OSError when `root` is no
    directory.
    """

    __slots__ = ("_depth", "_options", "_tree")

    def __init__(
        self,
        root: str | os.PathLike[str],
        prefix: str = "/",
        options: DirectoryOptions | None = None,
    ) -> None:
        self._options = options = options or DirectoryOptions()
        self._tree = Tree(root, follow_symlinks=options.follow_symlinks, hidden=options.hidden)
        self._depth = prefix.count("/")

    def close(self) -> None:
        """Let go of the tree; requests get 404 from here on.  Safe to repeat."""
        self._tree.close()

    def __call__(self, request: ServerRequest, arg: object = None) -> None:
        """Answer a request."""
        if request.method not in ("GET", "HEAD"):
            request.send_error(405, None, ("Allow", "GET, HEAD"))
            return
        try:
            self._answer(request)
        except OSError as exc:
            logger.warning("%s: %s", request.uri, exc)
            if exc.errno in _SCARCE:
                request.send_error(503, None, ("Retry-After", "1"))
            else:
                request.send_error(500)

    def _answer(self, request: ServerRequest) -> None:
        path = request.encoded_path
        # Split before it is decoded: an encoded slash is part of a name, and no name has one.
        names = [uridecode(part) for part in path.split("/")[self._depth :]]
        wants_folder = names[-1:] == [b""]
        found = self._tree.open(names[:-1] if wants_folder else names) if names else None
        if found is None:
            request.send_error(404)
            return
        with found:
            if found.is_directory:
                self._answer_folder(request, names, found, path)
            elif wants_folder:
                request.send_error(404)
            else:
                self._answer_file(request, names, found)

    def _answer_folder(
        self, request: ServerRequest, names: list[bytes], folder: OpenFile, path: str
    ) -> None:
        if names[-1] != b"":
            query = request.query
            # Relative to the root of this host: `//` would name another one.
            target = "/" + path.lstrip("/") + "/" + ("" if query is None else f"?{query}")
            request.send_error(301, None, ("Location", target))
            return
        index = self._options.index
        if index is not None:
            inside = [*names[:-1], os.fsencode(index)]
            found = self._tree.open(inside)
            if found is not None:
                with found:
                    if found.is_file:
                        self._answer_file(request, inside, found)
                        return
        if self._options.listing:
            self._answer_listing(request, folder, path, is_root=len(names) == 1)
        else:
            request.send_error(404)

    def _answer_listing(
        self, request: ServerRequest, folder: OpenFile, path: str, *, is_root: bool
    ) -> None:
        lines: list[str] = []
        with os.scandir(folder.fd) as entries:
            for entry in entries:
                if len(lines) == MAX_LISTED:
                    break
                if self._tree.may_be_seen(os.fsencode(entry.name)):
                    follow = bool(self._options.follow_symlinks)
                    is_folder = entry.is_dir(follow_symlinks=follow)
                    if is_folder or entry.is_file(follow_symlinks=follow):
                        lines.append(_listed(entry.name, is_folder))
        lines.sort()
        if not is_root:
            lines.insert(0, '<li><a href="../">../</a></li>')
        title = htmlescape(uridecode(path).decode(errors="replace"))
        page = (
            f"<!DOCTYPE html>\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
            + "\n".join(lines)
            + "\n</ul>\n"
        )
        request.output_headers.add("Content-Type", "text/html; charset=utf-8")
        request.send_reply(200, None, page.encode())

    def _answer_file(self, request: ServerRequest, names: list[bytes], file: OpenFile) -> None:
        output = request.output_headers
        output.add(
            "Content-Type", content_type_of(os.fsdecode(names[-1]), self._options.content_types)
        )
        if self._options.precompressed:
            output.add("Vary", "Accept-Encoding")
            coding, sibling = self._precompressed(request, names)
            if sibling is not None:
                with sibling:
                    output.add("Content-Encoding", coding)
                    self._answer_open_file(request, sibling, f"-{coding}")
                return
        self._answer_open_file(request, file, "")

    def _precompressed(
        self, request: ServerRequest, names: list[bytes]
    ) -> tuple[str, OpenFile | None]:
        takes = acceptable(
            request.input_headers.get_all("accept-encoding"), self._options.precompressed
        )
        for coding in takes:
            found = self._tree.open([*names[:-1], names[-1] + _SUFFIXES[coding].encode()])
            if found is not None and found.is_file:
                return coding, found
            if found is not None:
                found.close()
        return "", None

    def _answer_open_file(self, request: ServerRequest, file: OpenFile, variant: str) -> None:
        """Answer with a file.  variant: tells the tags of what one name stands for apart."""
        size, modified = file.status.st_size, file.status.st_mtime
        etag = f'"{file.status.st_mtime_ns:x}-{size:x}{variant}"'
        output = request.output_headers
        output.add("ETag", etag)
        output.add("Last-Modified", formatdate(modified, usegmt=True))
        if self._options.cache_control is not None:
            output.add("Cache-Control", self._options.cache_control)
        code = conditions.evaluate(request.input_headers, request.method, etag, modified)
        if code == 412:
            request.send_error(412)
            return
        if code == 304:
            output.remove("Content-Type")
            request.send_reply(304)
            return
        output.add("Accept-Ranges", "bytes")
        ranges = None
        headers = request.input_headers
        if request.method == "GET" and conditions.range_holds(headers, etag, modified):
            try:
                ranges = parse_ranges(headers.find("range"), size)
            except NotSatisfiable:
                request.send_error(416, None, ("Content-Range", f"bytes */{size}"))
                return
        if ranges is None and size < SMALL_BYTES:
            request.send_reply(200, None, file.read())
            return
        body = EvBuffer()
        with FileSegment(file.detach(), 0, size, EVBUF_FS_CLOSE_ON_FREE) as segment:
            if ranges is None:
                body.add_file_segment(segment)
                request.send_reply(200, None, body)
            elif len(ranges) == 1:
                begin, end = ranges[0]
                output.add("Content-Range", f"bytes {begin}-{end - 1}/{size}")
                body.add_file_segment(segment, begin, end - begin)
                request.send_reply(206, None, body)
            else:
                self._answer_ranges(request, segment, ranges, size, body)

    def _answer_ranges(
        self,
        request: ServerRequest,
        segment: FileSegment,
        ranges: list[tuple[int, int]],
        size: int,
        body: EvBuffer,
    ) -> None:
        """Send several ranges as one multipart body (RFC 9110 section 14.6)."""
        boundary = secrets.token_hex(16)
        output = request.output_headers
        content_type = output.find("Content-Type")
        for begin, end in ranges:
            body.add(
                f"--{boundary}\r\nContent-Type: {content_type}\r\n"
                f"Content-Range: bytes {begin}-{end - 1}/{size}\r\n\r\n".encode()
            )
            body.add_file_segment(segment, begin, end - begin)
            body.add(b"\r\n")
        body.add(f"--{boundary}--\r\n".encode())
        output.replace("Content-Type", f"multipart/byteranges; boundary={boundary}")
        request.send_reply(206, None, body)


def _listed(name: str, is_folder: bool) -> str:
    """Return the line of a listing; its link begins with `./`, so that no name is a scheme."""
    slash = "/" * is_folder
    shown = htmlescape(name.encode(errors="replace").decode())
    return f'<li><a href="./{encode_uri(os.fsencode(name))}{slash}">{shown}{slash}</a></li>'
