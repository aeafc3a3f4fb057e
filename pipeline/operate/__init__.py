"""What people see of a site, and what they may decide: by a command, or on the operator's page."""
