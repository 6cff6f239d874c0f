"""What objects of the package measure in another process, in a module that it can import."""

import torch

from iqa_metrics import Backbone, Column, LayerTable
from iqa_metrics.compute.pair_module import SharedReference
from iqa_metrics.study import Plan


def values_of(thing, images):
    """Return what an object of the package measures, or says of itself, as numbers."""
    if isinstance(thing, Plan):
        known = [list(map(repr, d.pairs)) for d in thing.databases.values()]
        networks = [(n.layers, values_of(n.record, images)) for n in thing.networks]
        return repr((known, thing.readouts, thing.baselines, thing.statistics, networks))
    if isinstance(thing, Backbone):
        last = thing.layers[-1].name
        thing = LayerTable(thing, [Column(last, "rmse"), Column(last, "cosine")])
    if getattr(thing, "smallest_input", 0) <= 64:
        images = [image[..., :64, :64] for image in images]
    if isinstance(thing, SharedReference):
        found = thing.score(images[1])
    elif hasattr(thing, "compute"):  # of torchmetrics, which takes long to import
        thing.update(images[1], images[0])
        found = thing.compute()
    else:
        with torch.no_grad():
            found = thing(*images)
    if isinstance(found, dict):
        found = torch.stack([one for of_layer in found.values() for one in of_layer.values()])
    return found.tolist()


def all_values_of(things, images, threads=None):
    """Return the values of objects, by name, computed in a number of threads."""
    if threads is not None:
        torch.set_num_threads(threads)
    return {name: values_of(thing, images) for name, thing in things.items()}
