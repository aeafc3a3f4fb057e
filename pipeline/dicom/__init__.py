"""Read, compare, change and encode DICOM data sets. This room knows no spool, no ledger and no destination."""
