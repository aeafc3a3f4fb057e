"""HTTP for the HIS, and pages for people (docs/shim.md): place orders and show their state.

The worker carries orders out. A cut request, a closed browser or a dead shim therefore costs no order.
"""
