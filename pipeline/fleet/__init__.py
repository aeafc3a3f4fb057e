"""Other sites: what each says of itself, who asks it, and which of them needs a person (docs/fleet.md)."""
