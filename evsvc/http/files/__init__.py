"""Static files over HTTP: a tree of them, conditional requests, ranges, precompressed siblings."""

from .handler import DirectoryOptions, FileHandler

__all__ = ["DirectoryOptions", "FileHandler"]
