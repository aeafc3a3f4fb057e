"""The C-STORE and C-ECHO SCU: the DICOM upper layer, DIMSE messages, and the meaning of the peer's answers.

`pdu` and `message` are bytes, and explain a peer's codes; `requestor` is one association; `contexts` proposes
presentation contexts; `send_instances` sends a consignment (docs/adr/0007-cstore.md).
"""
