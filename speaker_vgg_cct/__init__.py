__version__ = "0.2.0"

from .moved import find_moved

find_moved()
