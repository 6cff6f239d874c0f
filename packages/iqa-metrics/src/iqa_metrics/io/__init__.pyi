from . import atomic as atomic
from . import decoding as decoding
from . import images as images
from . import readahead as readahead
from . import resuming as resuming
from . import tables as tables
