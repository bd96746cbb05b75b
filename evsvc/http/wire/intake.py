"""What was received and is not consumed yet."""


class Intake:
    """The bytes received and not consumed yet: `data[pos:]`.

    One message per `receive` is the usual case, and then nothing is copied: `data` is the very
    object that was received.  Only when bytes are added to a rest does it become a bytearray,
    which grows and is cut at its front without moving the whole.
    """

    __slots__ = ("data", "pos")

    def __init__(self) -> None:
        self.data: bytes | bytearray = b""
        self.pos = 0

    def receive(self, data: bytes) -> None:
        """Add bytes at the end."""
        if self.pos == len(self.data):
            self.data = data
            self.pos = 0
            return
        if isinstance(self.data, bytes):
            self.data = bytearray(memoryview(self.data)[self.pos :])
        else:
            del self.data[: self.pos]
        self.pos = 0
        self.data += data

    @property
    def buffered(self) -> int:
        """How many bytes are not consumed."""
        return len(self.data) - self.pos

    def take(self, most: int) -> bytes:
        """Consume up to `most` bytes."""
        end = min(self.pos + most, len(self.data))
        piece = self.data[self.pos : end]
        self.pos = end
        return piece if isinstance(piece, bytes) else bytes(piece)
