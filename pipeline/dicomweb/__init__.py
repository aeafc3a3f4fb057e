"""What is spoken with a DICOMweb archive: addresses, authentication, STOW-RS and QIDO-RS, and one door to HTTP."""
