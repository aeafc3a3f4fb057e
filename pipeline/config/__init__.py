"""What site.toml may say, as types: tables, units, keys, certificates, the institution mapping."""
