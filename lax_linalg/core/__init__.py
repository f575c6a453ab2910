"""Operators, verbs and their dispatch: what everything else stands on."""
