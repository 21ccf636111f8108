-- Everything that happens to all orders of a merchant, in the order of the log: read by `merchantEvents`.
CREATE INDEX event_log_merchant ON event_log (merchant_id, txid, no);
