"""The C-STORE and C-ECHO SCU: the DICOM upper layer, DIMSE messages, and the meaning of the peer's answers.

`pdu` and `message` are bytes; `requestor` is one association; `contexts` proposes presentation contexts;
`refused_association` and `statuses` explain a peer's codes; `send_instances` sends a consignment
(docs/adr/0007-cstore.md).
"""
