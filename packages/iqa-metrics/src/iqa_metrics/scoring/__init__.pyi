from . import agreement as agreement
from . import batches as batches
from . import scores as scores
