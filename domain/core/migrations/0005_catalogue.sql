-- The catalogue: data keys, products, prices, coupons, stock, supply, imports.
-- `merchant_id` is first in every key: a merchant is the unit of distribution.

-- One data key per merchant and version, wrapped by the master key that lives outside the database.
-- Version 0 is the key of the uniqueness hash: it is never rotated, only wrapped anew.
CREATE TABLE merchant_data_key (
    merchant_id UUID NOT NULL,
    version     SMALLINT NOT NULL CHECK (version >= 0),
    wrapped     BYTEA NOT NULL,
    kek_version SMALLINT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, version)
);
CREATE INDEX merchant_data_key_kek ON merchant_data_key (kek_version);

CREATE TABLE product (
    merchant_id UUID NOT NULL,
    id          UUID NOT NULL,
    shop_id     UUID NOT NULL,
    state       VARCHAR(32) NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'hidden', 'archived')),
    position    INTEGER NOT NULL DEFAULT 0,
    version     INTEGER NOT NULL DEFAULT 1,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, id)
);
CREATE INDEX product_id ON product (id);
CREATE INDEX product_page ON product (merchant_id, shop_id, position, id) WHERE state = 'active';
-- `search` is title and description folded as queries are (domain/catalogue/rules.py `fold`).
CREATE TABLE product_text (
    merchant_id UUID NOT NULL,
    product_id  UUID NOT NULL,
    language    VARCHAR(16) NOT NULL,
    title       VARCHAR(200) NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    search      TEXT NOT NULL,
    PRIMARY KEY (merchant_id, product_id, language)
);

CREATE TABLE variant (
    merchant_id  UUID NOT NULL,
    id           UUID NOT NULL,
    product_id   UUID NOT NULL,
    delivery     VARCHAR(32) NOT NULL CHECK (delivery IN ('stock', 'reusable', 'manual', 'supplier')),
    state        VARCHAR(32) NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'hidden', 'archived')),
    min_quantity INTEGER NOT NULL DEFAULT 1 CHECK (min_quantity >= 1),
    max_quantity INTEGER NOT NULL DEFAULT 100 CHECK (max_quantity BETWEEN min_quantity AND 10000),
    region       VARCHAR(2),
    supplier     VARCHAR(64),
    supplier_sku VARCHAR(120),
    low_stock_at INTEGER CHECK (low_stock_at >= 0),
    is_low       BOOLEAN NOT NULL DEFAULT false,
    position     INTEGER NOT NULL DEFAULT 0,
    version      INTEGER NOT NULL DEFAULT 1,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, id),
    CHECK (delivery <> 'supplier' OR (supplier IS NOT NULL AND supplier_sku IS NOT NULL))
);
CREATE INDEX variant_id ON variant (id);
CREATE INDEX variant_product ON variant (merchant_id, product_id, position, id);
CREATE TABLE variant_text (
    merchant_id UUID NOT NULL,
    variant_id  UUID NOT NULL,
    language    VARCHAR(16) NOT NULL,
    title       VARCHAR(200) NOT NULL,
    PRIMARY KEY (merchant_id, variant_id, language)
);

-- A price list: at most one entry per currency, exactly one of them is the base of every other currency.
CREATE TABLE price (
    merchant_id UUID NOT NULL,
    variant_id  UUID NOT NULL,
    currency    VARCHAR(12) NOT NULL,
    minor       BIGINT NOT NULL CHECK (minor >= 0),
    is_base     BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY (merchant_id, variant_id, currency)
);
CREATE UNIQUE INDEX price_base ON price (merchant_id, variant_id) WHERE is_base;
CREATE TABLE price_tier (
    merchant_id   UUID NOT NULL,
    variant_id    UUID NOT NULL,
    currency      VARCHAR(12) NOT NULL,
    from_quantity INTEGER NOT NULL CHECK (from_quantity >= 2),
    minor         BIGINT NOT NULL CHECK (minor >= 0),
    PRIMARY KEY (merchant_id, variant_id, currency, from_quantity)
);

-- `used` may pass `use_limit` only by a late payment whose use had been given back (case B11).
CREATE TABLE coupon (
    merchant_id UUID NOT NULL,
    id          UUID NOT NULL,
    code        VARCHAR(64) NOT NULL,
    kind        VARCHAR(32) NOT NULL CHECK (kind IN ('fixed', 'percent')),
    percent_bps INTEGER CHECK (percent_bps BETWEEN 1 AND 10000),
    use_limit   INTEGER CHECK (use_limit >= 0),
    buyer_limit INTEGER CHECK (buyer_limit >= 1),
    used        INTEGER NOT NULL DEFAULT 0 CHECK (used >= 0),
    shop_id     UUID,
    product_ids UUID[] NOT NULL DEFAULT '{}',
    starts_at   TIMESTAMPTZ NOT NULL DEFAULT '-infinity',
    expires_at  TIMESTAMPTZ NOT NULL DEFAULT 'infinity',
    state       VARCHAR(32) NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
    version     INTEGER NOT NULL DEFAULT 1,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, id),
    UNIQUE (merchant_id, code),
    CHECK ((kind = 'percent') = (percent_bps IS NOT NULL))
) WITH (fillfactor = 50);
-- What a fixed coupon takes off and from which total on, per currency; one entry is the base of the others.
CREATE TABLE coupon_amount (
    merchant_id     UUID NOT NULL,
    coupon_id       UUID NOT NULL,
    currency        VARCHAR(12) NOT NULL,
    minor           BIGINT NOT NULL DEFAULT 0 CHECK (minor >= 0),
    min_total_minor BIGINT NOT NULL DEFAULT 0 CHECK (min_total_minor >= 0),
    is_base         BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY (merchant_id, coupon_id, currency)
);
CREATE UNIQUE INDEX coupon_amount_base ON coupon_amount (merchant_id, coupon_id) WHERE is_base;
CREATE TABLE coupon_use (
    merchant_id UUID NOT NULL,
    order_id    UUID NOT NULL,
    coupon_id   UUID NOT NULL,
    buyer_hash  BYTEA,
    state       VARCHAR(32) NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'used', 'returned', 'extra')),
    at          TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (order_id, merchant_id)
);
CREATE INDEX coupon_use_buyer ON coupon_use (merchant_id, coupon_id, buyer_hash) WHERE state <> 'returned';

-- Keys that came in together: what they cost, where they work, how long.
CREATE TABLE stock_lot (
    merchant_id UUID NOT NULL,
    no          BIGINT GENERATED ALWAYS AS IDENTITY,
    variant_id  UUID NOT NULL,
    cost_minor  BIGINT CHECK (cost_minor >= 0),
    currency    VARCHAR(12),
    region      VARCHAR(2),
    expires_at  TIMESTAMPTZ NOT NULL DEFAULT 'infinity',
    note        VARCHAR(200) NOT NULL DEFAULT '',
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, no),
    CHECK ((cost_minor IS NULL) = (currency IS NULL))
);
CREATE INDEX stock_lot_variant ON stock_lot (merchant_id, variant_id, no);

-- One thing to sell. available → reserved → sold → revoked | replaced; available ⇄ locked (case M07).
-- `expires_at` repeats the lot's, so one index walks keys first-expiring first, lot by lot, bucket by bucket.
-- `open` keeps `state` itself out of every index: reserved → sold then stays a HOT update.
CREATE TABLE card_key (
    merchant_id   UUID NOT NULL,
    id            UUID NOT NULL,
    variant_id    UUID NOT NULL,
    lot_no        BIGINT NOT NULL,
    expires_at    TIMESTAMPTZ NOT NULL DEFAULT 'infinity',
    bucket        SMALLINT NOT NULL CHECK (bucket BETWEEN 0 AND 63),
    state         VARCHAR(32) NOT NULL DEFAULT 'available'
                  CHECK (state IN ('available', 'reserved', 'sold', 'locked', 'revoked', 'replaced')),
    open          BOOLEAN GENERATED ALWAYS AS (state = 'available') STORED,
    key_version   SMALLINT NOT NULL,
    ciphertext    BYTEA NOT NULL,
    hash          BYTEA NOT NULL CHECK (octet_length(hash) = 16),
    order_id      UUID,
    order_line_id UUID,
    sold_at       TIMESTAMPTZ,
    revealed_at   TIMESTAMPTZ,
    PRIMARY KEY (merchant_id, id),
    UNIQUE (merchant_id, hash),
    CHECK ((state IN ('available', 'locked')) = (order_id IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX card_key_claim ON card_key (variant_id, expires_at, lot_no, bucket) WHERE open;
CREATE INDEX card_key_order ON card_key (order_id, merchant_id) WHERE order_id IS NOT NULL;

-- A sold key never returns to stock and a key never changes what it is, whoever writes the SQL.
CREATE FUNCTION card_key_guarded() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'card_key % → % is no transition', OLD.state, NEW.state USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER card_key_transitions BEFORE UPDATE ON card_key FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('available', 'reserved'), ('available', 'sold'), ('available', 'locked'), ('reserved', 'available'),
        ('reserved', 'sold'), ('locked', 'available'), ('sold', 'revoked'), ('sold', 'replaced')))
    EXECUTE FUNCTION card_key_guarded();

-- Shown stock without counting: kept by the triggers below, one shard per connection so that sales do not meet.
CREATE TABLE variant_stock (
    merchant_id UUID NOT NULL,
    variant_id  UUID NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL,
    shard       SMALLINT NOT NULL,
    available   INTEGER NOT NULL,
    PRIMARY KEY (merchant_id, variant_id, expires_at, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
CREATE FUNCTION card_key_counted() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO variant_stock AS s (merchant_id, variant_id, expires_at, shard, available)
        SELECT merchant_id, variant_id, expires_at, pg_backend_pid() & 63, sum(change)
        FROM (SELECT merchant_id, variant_id, expires_at, 1 AS change FROM fresh WHERE open
              UNION ALL
              SELECT merchant_id, variant_id, expires_at, -1 FROM stale WHERE open) AS moved
        GROUP BY 1, 2, 3 HAVING sum(change) <> 0 ORDER BY 1, 2, 3
        ON CONFLICT (merchant_id, variant_id, expires_at, shard)
        DO UPDATE SET available = s.available + excluded.available;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO variant_stock AS s (merchant_id, variant_id, expires_at, shard, available)
        SELECT merchant_id, variant_id, expires_at, pg_backend_pid() & 63, count(*)
        FROM fresh WHERE open GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (merchant_id, variant_id, expires_at, shard)
        DO UPDATE SET available = s.available + excluded.available;
    ELSE
        INSERT INTO variant_stock AS s (merchant_id, variant_id, expires_at, shard, available)
        SELECT merchant_id, variant_id, expires_at, pg_backend_pid() & 63, -count(*)
        FROM stale WHERE open GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (merchant_id, variant_id, expires_at, shard)
        DO UPDATE SET available = s.available + excluded.available;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER card_key_counted_insert AFTER INSERT ON card_key
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION card_key_counted();
CREATE TRIGGER card_key_counted_update AFTER UPDATE ON card_key
    REFERENCING OLD TABLE AS stale NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION card_key_counted();
CREATE TRIGGER card_key_counted_delete AFTER DELETE ON card_key
    REFERENCING OLD TABLE AS stale FOR EACH STATEMENT EXECUTE FUNCTION card_key_counted();

-- One content sold many times; `use_limit` NULL is unlimited and stays so.
CREATE TABLE reusable_key (
    merchant_id UUID NOT NULL,
    id          UUID NOT NULL,
    variant_id  UUID NOT NULL,
    state       VARCHAR(32) NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'retired')),
    use_limit   INTEGER CHECK (use_limit >= 0),
    used        INTEGER NOT NULL DEFAULT 0 CHECK (used >= 0),
    key_version SMALLINT NOT NULL,
    ciphertext  BYTEA NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, id),
    CHECK (use_limit IS NULL OR used <= use_limit)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX reusable_key_active ON reusable_key (merchant_id, variant_id) WHERE state = 'active';
CREATE TABLE reusable_use (
    merchant_id     UUID NOT NULL,
    order_line_id   UUID NOT NULL,
    order_id        UUID NOT NULL,
    reusable_key_id UUID NOT NULL,
    quantity        INTEGER NOT NULL CHECK (quantity >= 1),
    state           VARCHAR(32) NOT NULL CHECK (state IN ('reserved', 'sold', 'revoked')),
    revealed_at     TIMESTAMPTZ,
    PRIMARY KEY (merchant_id, order_line_id)
);
CREATE INDEX reusable_use_order ON reusable_use (order_id, merchant_id);

-- Who holds stock until when. A hold that lapsed unpaid stays a day: quotas against hoarding count it (case D05).
CREATE TABLE stock_hold (
    order_id     UUID NOT NULL,
    merchant_id  UUID NOT NULL,
    quantity     INTEGER NOT NULL CHECK (quantity >= 0),
    held_until   TIMESTAMPTZ NOT NULL,
    state        VARCHAR(32) NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'lapsed')),
    address_hash BYTEA,
    device_hash  BYTEA,
    email_hash   BYTEA,
    PRIMARY KEY (order_id, merchant_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX stock_hold_until ON stock_hold (state, held_until);
CREATE INDEX stock_hold_address ON stock_hold (merchant_id, address_hash) WHERE address_hash IS NOT NULL;
CREATE INDEX stock_hold_device ON stock_hold (merchant_id, device_hash) WHERE device_hash IS NOT NULL;
CREATE INDEX stock_hold_email ON stock_hold (merchant_id, email_hash) WHERE email_hash IS NOT NULL;

-- Who has seen the goods of an order: one row and one audit row per viewer's session.
CREATE TABLE reveal (
    merchant_id UUID NOT NULL,
    order_id    UUID NOT NULL,
    session     VARCHAR(64) NOT NULL,
    revealed_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (order_id, merchant_id, session)
);

-- Goods bought from a supplier for one order line; `id` is the supplier's idempotency key.
CREATE TABLE supply (
    merchant_id   UUID NOT NULL,
    id            UUID NOT NULL,
    order_id      UUID NOT NULL,
    order_line_id UUID NOT NULL,
    variant_id    UUID NOT NULL,
    supplier      VARCHAR(64) NOT NULL,
    sku           VARCHAR(120) NOT NULL,
    quantity      INTEGER NOT NULL CHECK (quantity >= 1),
    state         VARCHAR(32) NOT NULL DEFAULT 'owed'
                  CHECK (state IN ('owed', 'sent', 'pending', 'done', 'refused', 'cancelled')),
    cost_minor    BIGINT,
    currency      VARCHAR(12),
    reason        VARCHAR(120) NOT NULL DEFAULT '',
    created_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    moved_at      TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, id),
    UNIQUE (merchant_id, order_line_id)
);
CREATE INDEX supply_id ON supply (id);
CREATE INDEX supply_order ON supply (order_id);

-- A pasted or uploaded list of keys on its way into stock; `done_lines` moves outside the import's transaction.
CREATE TABLE import_job (
    merchant_id  UUID NOT NULL,
    id           UUID NOT NULL,
    variant_id   UUID NOT NULL,
    content_hash BYTEA NOT NULL,
    state        VARCHAR(32) NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'refused', 'failed')),
    done_lines   INTEGER NOT NULL DEFAULT 0,
    total_lines  INTEGER NOT NULL DEFAULT 0,
    added        INTEGER NOT NULL DEFAULT 0,
    report_json  JSONB,
    actor_id     VARCHAR(64) NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    moved_at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, id)
);
-- A file sent ahead of an import by one account; its bytes lie sealed in the data folder.
CREATE TABLE upload (
    id         UUID PRIMARY KEY,
    account_id UUID NOT NULL,
    size_bytes BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX upload_age ON upload (created_at);
CREATE INDEX upload_account ON upload (account_id);
