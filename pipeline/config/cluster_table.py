"""[cluster]: several machines that work on one ledger and one store (docs/scale.md)."""

import platform
import re
from datetime import timedelta
from typing import Annotated

from pydantic import Field, field_validator

from pipeline.config.keys import AbsolutePath, Duration, Table

_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class ClusterTable(Table):
    """[cluster]: this machine is one of several with one ledger on a server, and one store."""

    store: AbsolutePath
    """Folder that every node mounts at this path: what is admitted lies there, until it is settled and deleted.
    Example: `"/mnt/storestow"`"""
    node: str = ""
    """This node's name, another one on each node; empty takes the host name. Example: `"gateway-1"`"""
    lost_after: Annotated[Duration, Field(ge=timedelta(seconds=15))] = timedelta(seconds=30)
    """How long a node is not heard of before others take over its work; a node reports every five seconds."""

    @field_validator("node")
    @classmethod
    def _node_is_a_name(cls, node: str) -> str:
        if node and not _NODE.fullmatch(node):
            raise ValueError("a node's name is 1 to 63 of A-Z a-z 0-9 . _ - and begins with a letter or digit")
        return node

    @property
    def name(self) -> str:
        """Return this node's name."""
        return self.node or platform.node()
