-- What merchants change through the API: shops carry a version, lots are counted, exported keys never come back.

ALTER TABLE shop ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

-- A key whose plaintext has left the house: locked, and not put back on the shelf with its lot.
ALTER TABLE card_key ADD COLUMN exported_at TIMESTAMPTZ;

-- The keys of one lot, to count and to withdraw them. Without `state`, so that reserved → sold stays a HOT update.
CREATE INDEX card_key_lot ON card_key (lot_no);

-- A coupon is named by its id alone.
CREATE INDEX coupon_id ON coupon (id);
