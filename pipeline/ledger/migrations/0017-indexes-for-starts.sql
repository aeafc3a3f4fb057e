-- What a start asks for is found without reading every instance, arrival and delivery of the past.
CREATE INDEX discarded_instances ON instance (arrival) WHERE discarded_at IS NOT NULL;
CREATE INDEX arrivals_here ON arrival (name, state) WHERE gone_at IS NULL;
CREATE INDEX made_files ON delivery (order_id) WHERE made_path IS NOT NULL;
