"""Convolutions and locally connected maps."""
