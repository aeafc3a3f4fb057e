"""The disc: one patient's objects as an image that opens anywhere, read back before it is offered.

`making.make_disc` is the way in, `model` has its words. Which file does what: docs/disc.md; why:
docs/adr/0006-disc.md. Nothing is imported here: processes that only look at files are to start at once.
"""
