"""What site.toml may contain, as types: tables, units, keys, certificates, the institution mapping."""
