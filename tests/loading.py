"""A dataset whose workers measure, in a module that is quick to import."""

import torch


class Scored(torch.utils.data.Dataset):
    """A dataset that measures each of its images with several metrics."""

    def __init__(self, metrics, images):
        self.metrics, self.images = metrics, images

    def __len__(self):
        return len(self.images[1])

    def __getitem__(self, number):
        distorted = self.images[1][number][None]
        return torch.cat([metric(self.images[0], distorted) for metric in self.metrics])
