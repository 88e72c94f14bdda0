"""Attestations beside images: found in registries, and believed only for their signatures.

DSSE envelopes of in-toto statements, as `cosign attest` of versions 2 and 3 stores them. Where and
how they are stored is in `attached`, what makes one count in `verify`, and `cache` keeps both.
"""
