"""storestow: a hook-driven DICOM gateway. ARCHITECTURE.md tells the way of an arriving study."""

__version__ = "0.1.0"
