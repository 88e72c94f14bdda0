"""What registries tell of images: the digests of tags, and the images' own configurations.

Registries are asked as the distribution specification has it (v1.1,
https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md), with the pull secrets that
the kubelet would use, within a deadline, and never at an address that is not a registry's to have.
"""
