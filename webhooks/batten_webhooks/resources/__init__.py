"""The objects of the group batten.dev, as pydantic models: schemas and reference come from them.

Imported only where such an object is read: pydantic takes its time.
"""

from batten_webhooks.resources.crd import crds
from batten_webhooks.resources.exception import HardeningException, read_exception
from batten_webhooks.resources.image_scan import ClusterScan, ImageScan, read_image_scan
from batten_webhooks.resources.invalid import Invalid
from batten_webhooks.resources.policy import HardeningPolicy, read_policy
from batten_webhooks.resources.profile import ClusterProfile, ImageProfile, read_profile

__all__ = [
    "ClusterProfile",
    "ClusterScan",
    "HardeningException",
    "HardeningPolicy",
    "ImageProfile",
    "ImageScan",
    "Invalid",
    "crds",
    "read_exception",
    "read_image_scan",
    "read_policy",
    "read_profile",
]
