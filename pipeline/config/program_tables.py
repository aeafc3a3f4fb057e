"""The table [programs] of site.toml: which external programs to use."""

from pipeline.config.keys import Table


class ProgramsTable(Table):
    """[programs]: absolute paths of external programs; empty means the system's own."""

    storescp: str = ""
    """DCMTK's storescp, which receives. Example: `"/opt/dcmtk/bin/storescp"`"""
    findscu: str = ""
    """DCMTK's findscu, which asks the PACS of orders. Example: `"/opt/dcmtk/bin/findscu"`"""
    movescu: str = ""
    """DCMTK's movescu, which has the PACS send, where `[pacs] retrieve = "move"`.
    Example: `"/opt/dcmtk/bin/movescu"`"""
    getscu: str = ""
    """DCMTK's getscu, which fetches from the PACS, where `[pacs] retrieve = "get"`.
    Example: `"/opt/dcmtk/bin/getscu"`"""
    dcmsend: str = ""
    """Accepted from older configurations; nothing uses it. Example: `"/opt/dcmtk/bin/dcmsend"`"""
    echoscu: str = ""
    """DCMTK's echoscu, with which `storestow check` asks the PACS. Example: `"/opt/dcmtk/bin/echoscu"`"""
    dcmmkdir: str = ""
    """Accepted from older configurations; nothing uses it. Example: `"/opt/dcmtk/bin/dcmmkdir"`"""
    xorriso: str = ""
    """xorriso, which writes disc images. Example: `"/opt/xorriso/bin/xorriso"`"""
    dictionary: str = ""
    """A DICOM dictionary of the site, which DCMTK's programs get as DCMDICTPATH.
    Example: `"/etc/storestow/dicom.dic"`"""
