"""Patient discs: one patient's objects as an image that opens everywhere, read back before it is offered.

`make.make.make_disc` is the entry point, `model` has the types. docs/disc.md says which file does what,
docs/adr/0006-disc.md why. This module imports nothing, so that processes that only look at files start at once.
"""
