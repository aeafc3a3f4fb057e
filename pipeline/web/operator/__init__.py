"""The operator's page: how the site stands, and what a person may do about it ([shim] operator_key)."""
