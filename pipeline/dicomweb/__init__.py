"""The client of a DICOMweb archive: addresses, authentication, STOW-RS, QIDO-RS, WADO-RS, and the HTTP client."""
