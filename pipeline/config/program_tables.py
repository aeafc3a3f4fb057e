"""The table of site.toml that says which external programs are meant."""

from pipeline.config.keys import Table


class ProgramsTable(Table):
    """[programs]: absolute paths of external programs; empty means the system's own."""

    storescp: str = ""
    findscu: str = ""
    movescu: str = ""
    getscu: str = ""
    dcmsend: str = ""
    echoscu: str = ""
    dcmmkdir: str = ""
    xorriso: str = ""
    dictionary: str = ""
