"""Where `rtbench.images.ground_truth` was in version 0.1, for scripts that were written for it."""

from rtbench.images.ground_truth import imagenet_wnids

__all__ = ["imagenet_wnids"]
