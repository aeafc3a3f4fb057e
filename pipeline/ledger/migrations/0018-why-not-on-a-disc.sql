-- Why a disc of a study lacks an instance, for programs too, as the receipts of an order have it.
ALTER TABLE on_disc ADD COLUMN left_out_code VARCHAR;
