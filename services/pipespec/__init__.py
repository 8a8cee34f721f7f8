"""PipeSpec: asynchronous hierarchical speculative decoding, served.

Reading order: ``docs/architecture.md``. Folders are layers; imports go down only.
"""

__version__ = "0.1.0"
