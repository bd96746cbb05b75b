"""Answering calls."""
