"""The Patient IDs that prove nothing, if a site configures no others; they stand alone for the configuration."""

PLACEHOLDERS = (  # "0" stands for any number of zeros; an empty Patient ID is always a placeholder.
    *("0", "W/I", "UNKNOWN", "UNKNOWN ID", "NONE", "NULL", "NA", "N/A", "NO ID", "NOID", "ANON", "ANONYMOUS"),
    *("-", "."),
)
