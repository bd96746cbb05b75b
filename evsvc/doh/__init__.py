"""DNS over HTTPS (RFC 8484), of our HTTP and our DNS."""

from .client import DohClientOptions, add_doh_nameserver
from .server import DohOptions, mount_doh

__all__ = ["DohClientOptions", "DohOptions", "add_doh_nameserver", "mount_doh"]
