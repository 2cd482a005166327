"""Nets in PyTorch whose every layer has its own hand-written forward and backward."""

__version__ = "0.1.0"
