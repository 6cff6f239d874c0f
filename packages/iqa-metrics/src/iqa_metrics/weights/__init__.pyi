from . import checkpoints as checkpoints
from . import fetching as fetching
from . import files as files
