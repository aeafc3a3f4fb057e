"""The operator's page: the state of the site, and what a person may do about it ([shim] operator_key)."""
