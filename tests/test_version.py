"""The version, as text and as a number."""

from evsvc import __version__, version_number


def test_the_two_versions_agree() -> None:
    """libevent's event_get_version_number: major, minor and patch, a byte each, and one unused."""
    parts = [int(part) for part in __version__.split(".")]
    assert version_number == int.from_bytes([*parts, 0])
