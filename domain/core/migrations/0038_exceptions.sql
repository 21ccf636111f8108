-- What a person found out about an exception; one that comes up again is open again.
ALTER TABLE money_exception ADD COLUMN note VARCHAR(500) NOT NULL DEFAULT '';
ALTER TABLE money_exception ADD CHECK ((state = 'open') = (closed_at IS NULL));
CREATE INDEX money_exception_order ON money_exception (order_id) WHERE order_id IS NOT NULL;
