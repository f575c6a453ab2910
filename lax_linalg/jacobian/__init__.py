"""Jacobians of functions and of whole networks, as operators."""
