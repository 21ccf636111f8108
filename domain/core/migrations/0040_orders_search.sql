-- A merchant looks for the few orders among many that ended in another way than delivered.
CREATE INDEX orders_ended ON orders (merchant_id, id) WHERE status IN ('refunded', 'disputed', 'cancelled');
