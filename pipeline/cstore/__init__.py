"""The Storage service class as a user: the upper layer, C-STORE and C-ECHO, and what their answers mean.

`pdu` and `message` are bytes, `association` is one connection, `contexts` what is proposed and accepted,
`rejection` and `statuses` what a peer's numbers mean, `relay` a consignment on its way (docs/adr/0007-cstore.md).
"""
