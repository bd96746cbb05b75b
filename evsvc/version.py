"""The version of evsvc, in one place: the package and its build both read it here."""

__version__ = "0.1.0"

version_number = 0x00010000
"""The version as one number, a byte each for major, minor and patch, and one unused.

Source: event_get_version_number.
"""
