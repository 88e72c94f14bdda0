"""What scanners found in images, whoever tells it: read, bound to digests, and judged."""
