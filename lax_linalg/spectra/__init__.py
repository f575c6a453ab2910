"""Spectra and what is read off them."""
