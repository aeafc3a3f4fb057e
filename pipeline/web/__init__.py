"""HTTP for the HIS, and pages for people (docs/shim.md): it places orders and shows how they stand, nothing else.

The worker carries orders out; so a request that is cut, a browser that is closed and a shim that dies cost
nobody an order.
"""
