"""Takes files of any size as a stream, and shows how far each upload is while it goes on.

Usage: upload_progress.py [port]

    PUT /upload/NAME     the file; answered with its size and SHA-256
    GET /progress/NAME   events: percent, or bytes where no length was told; "done", "failed"

Nothing of a file is kept: each piece goes into the sum, and is gone.  A program that writes to a
slow place calls `request.pause_body()`, and `resume_body()` when it has written.
"""

import argparse
import hashlib
import sys

from evsvc import EventBase, HttpServer

PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<title>Upload</title>
<input type="file"> <progress max="100" value="0"></progress> <output></output>
<script>
const [input, bar, output] = document.querySelectorAll("input, progress, output");
input.onchange = async () => {
  const name = encodeURIComponent(crypto.randomUUID());
  const source = new EventSource(`/progress/${name}`);
  source.onmessage = event => bar.value = event.data;
  for (const end of ["done", "failed", "stop"])
    source.addEventListener(end, () => source.close());
  const reply = await fetch(`/upload/${name}`, { method: "PUT", body: input.files[0] });
  output.textContent = await reply.text();
};
</script>
"""

MOST_UPLOADS = 100  # at once, or watched

uploads = {}


class Upload:
    """A file on its way, or one that is only watched for so far."""

    def __init__(self, name):
        self.name = name
        self.watchers = set()
        self.begin(None)

    def begin(self, request):
        self.request = request
        length = request and request.input_headers.find("Content-Length")
        self.length = int(length) if length else None
        self.sum = hashlib.sha256()
        self.received = self.told = 0

    def tell(self, text, event=None):
        for stream in list(self.watchers):
            stream.send(text, event=event)

    def on_piece(self, request, data, arg):
        """A piece has come; watchers are told of each percent, or mebibyte, once."""
        self.sum.update(data)
        self.received += len(data)
        step = self.received >> 20
        if self.length:
            step = 100 * self.received // self.length
        if step > self.told:
            self.told = step
            self.tell(str(step if self.length else self.received))

    def on_end(self, request, is_whole, arg):
        """All has come, or the client has gone."""
        if is_whole:
            text = f"{self.received} bytes, SHA-256 {self.sum.hexdigest()}\n"
            request.output_headers.add("Content-Type", "text/plain")
            request.send_reply(200, None, text.encode())
        self.tell(str(self.received), "done" if is_whole else "failed")
        self.request = None
        self.leave()

    def leave(self, stream=None):
        """Forget the upload when nobody has to do with it any more."""
        self.watchers.discard(stream)
        if self.request is None and not self.watchers:
            uploads.pop(self.name, None)


def find_upload(request, prefix):
    """Return the upload that is meant, or None, and then there are too many."""
    name = request.path.removeprefix(prefix)
    if name not in uploads and len(uploads) < MOST_UPLOADS:
        uploads[name] = Upload(name)
    if name not in uploads:
        request.send_error(503, None, ("Retry-After", "10"))
    return uploads.get(name)


def take(request, arg):
    """Called when the header is there; the body comes piece by piece."""
    upload = find_upload(request, "/upload/")
    if upload is not None and upload.request is not None:
        request.send_error(409)
    elif upload is not None:
        upload.begin(request)
        request.set_body_cbs(upload.on_piece, upload.on_end)


def watch(request, arg):
    """Keep a stream of events for who looks on."""
    upload = find_upload(request, "/progress/")
    if upload is None:
        return
    stream = request.start_event_stream()
    if stream.is_open:
        upload.watchers.add(stream)
        stream.set_closecb(lambda stream, arg: upload.leave(stream))
        stream.send(str(upload.told))


def send_page(request, arg):
    """Answer with the page."""
    request.output_headers.add("Content-Type", "text/html; charset=utf-8")
    request.send_reply(200, None, PAGE.encode())


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=8080)
args = parser.parse_args()

with EventBase() as base, HttpServer(base) as server:
    server.set_cb("/", send_page, methods=("GET",))
    server.set_prefix_cb("/upload/", take, methods=("PUT",), streams=True)
    server.set_prefix_cb("/progress/", watch, methods=("GET",))
    try:
        bound = server.bind_socket("127.0.0.1", args.port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"upload_progress.py: {error}")
    print(f"http://127.0.0.1:{bound.port}/", flush=True)
    base.dispatch()
