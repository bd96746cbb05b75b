"""DNS over HTTPS (RFC 8484), of our HTTP and our DNS."""

from .server import DohOptions, mount_doh

__all__ = ["DohOptions", "mount_doh"]
