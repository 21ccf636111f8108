-- The ledger: journals of balanced transfers, the balances they add up to, holds, day totals and seals.
-- Balance = credits - debits: what we owe is >= 0, what we own or are owed is <= 0.

CREATE TABLE ledger_account (
    no         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    purpose    VARCHAR(32) NOT NULL CHECK (purpose IN (
        'provider_clearing', 'settlement_clearing', 'provider_fee', 'dispute_clearing', 'dispute_fee', 'bank_cash',
        'payout_clearing', 'suspense',
        'merchant_pending', 'merchant_available', 'merchant_reserved', 'merchant_disputed', 'merchant_in_transit',
        'merchant_fund_pending', 'merchant_debt',
        'affiliate_payable', 'affiliate_debt', 'wallet', 'wallet_bonus', 'buyer_held', 'sale_clearing',
        'refund_clearing', 'tax_payable', 'lender_payable',
        'platform_commission', 'payout_fee', 'fx_spread', 'fx_liquidity', 'promo_expense', 'loss', 'rounding',
        'credit_receivable', 'credit_fee_deferred', 'credit_fee_income', 'credit_loss', 'note_receivable',
        'fund_clearing', 'fast_pool', 'fund_units_held', 'merchant_units', 'pool_units')),
    owner_kind VARCHAR(32) NOT NULL CHECK (owner_kind IN ('platform', 'merchant', 'affiliate', 'buyer')),
    owner_id   UUID,
    sub        VARCHAR(40) NOT NULL DEFAULT '',
    ccy        VARCHAR(12) NOT NULL CHECK (ccy <> ''),
    normal     VARCHAR(6) NOT NULL CHECK (normal IN ('credit', 'debit')),
    shards     SMALLINT NOT NULL CHECK (shards > 0),
    closed_at  TIMESTAMPTZ,
    CHECK ((owner_id IS NULL) = (owner_kind = 'platform')),
    -- The owner first: "everything of this merchant" is one range of the same index.
    CONSTRAINT ledger_account_key UNIQUE NULLS NOT DISTINCT (owner_id, purpose, sub, ccy)
);

-- `key` is unique for ever, so this table is not partitioned. (chain, txid, no) is the sealer's commit-safe position.
CREATE TABLE ledger_journal (
    id             UUID PRIMARY KEY,
    no             BIGINT GENERATED ALWAYS AS IDENTITY,
    txid           XID8 NOT NULL DEFAULT pg_current_xact_id(),
    chain          SMALLINT NOT NULL DEFAULT 0,
    key            VARCHAR(120) NOT NULL CHECK (key <> ''),
    input_hash     BYTEA NOT NULL CHECK (octet_length(input_hash) = 32),
    kind           VARCHAR(32) NOT NULL CHECK (kind <> ''),
    effective_at   TIMESTAMPTZ NOT NULL,
    recorded_at    TIMESTAMPTZ NOT NULL,
    batch_id       UUID,
    correlation_id UUID,
    reverses_id    UUID CHECK (reverses_id <> id),
    CONSTRAINT ledger_journal_key UNIQUE (key),
    CHECK (effective_at <= recorded_at)
);
CREATE UNIQUE INDEX ledger_journal_reverses ON ledger_journal (reverses_id) WHERE reverses_id IS NOT NULL;
CREATE INDEX ledger_journal_position ON ledger_journal (chain, txid, no);

-- One row is both sides: an unbalanced journal cannot be written. `no` comes from one sequence without a cache and is
-- drawn under the row lock of the balances, so for an account of one row it is a safe cursor.
-- `recorded_on` is the UTC day of the statement: it starts after the journal's insert has taken its transaction id,
-- which is what lets a day be closed (ledger_day).
CREATE TABLE ledger_transfer (
    no           BIGINT GENERATED ALWAYS AS IDENTITY,
    journal_id   UUID NOT NULL,
    source_no    BIGINT NOT NULL,
    target_no    BIGINT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    hold_id      UUID,
    recorded_on  DATE NOT NULL DEFAULT ((statement_timestamp() AT TIME ZONE 'UTC')::date),
    line_no      SMALLINT NOT NULL CHECK (line_no > 0),
    source_shard SMALLINT NOT NULL CHECK (source_shard >= 0),
    target_shard SMALLINT NOT NULL CHECK (target_shard >= 0),
    ccy          VARCHAR(12) NOT NULL,
    phase        VARCHAR(7) NOT NULL CHECK (phase IN ('posted', 'pending', 'post', 'void')),
    CHECK (source_no <> target_no),
    CHECK ((hold_id IS NULL) = (phase = 'posted'))
) PARTITION BY RANGE (recorded_on);
CREATE UNIQUE INDEX ledger_transfer_line ON ledger_transfer (journal_id, line_no, recorded_on);
CREATE INDEX ledger_transfer_source ON ledger_transfer (source_no, no);
CREATE INDEX ledger_transfer_target ON ledger_transfer (target_no, no);
CREATE INDEX ledger_transfer_day ON ledger_transfer USING brin (recorded_on) WITH (pages_per_range = 32);

CREATE VIEW ledger_entry AS
SELECT t.no AS transfer_no, t.journal_id, t.line_no, t.source_no AS account_no, t.source_shard AS shard,
       t.target_no AS other_no, 'debit' AS side, t.amount_minor, t.ccy, t.phase, t.hold_id,
       j.effective_at, j.recorded_at, t.recorded_on
FROM ledger_transfer t JOIN ledger_journal j ON j.id = t.journal_id
UNION ALL
SELECT t.no, t.journal_id, t.line_no, t.target_no, t.target_shard, t.source_no, 'credit', t.amount_minor, t.ccy,
       t.phase, t.hold_id, j.effective_at, j.recorded_at, t.recorded_on
FROM ledger_transfer t JOIN ledger_journal j ON j.id = t.journal_id;

-- The last guard of every floor and ceiling; the first is the check in memory under the row lock.
CREATE TABLE ledger_balance (
    account_no      BIGINT NOT NULL,
    shard           SMALLINT NOT NULL CHECK (shard >= 0),
    debits_pending  BIGINT NOT NULL DEFAULT 0 CHECK (debits_pending >= 0),
    debits_posted   BIGINT NOT NULL DEFAULT 0 CHECK (debits_posted >= 0),
    credits_pending BIGINT NOT NULL DEFAULT 0 CHECK (credits_pending >= 0),
    credits_posted  BIGINT NOT NULL DEFAULT 0 CHECK (credits_posted >= 0),
    floor_minor     BIGINT,
    ceiling_minor   BIGINT,
    version         BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (account_no, shard),
    CONSTRAINT ledger_balance_floor CHECK (credits_posted - debits_posted - debits_pending >= floor_minor),
    CONSTRAINT ledger_balance_ceiling CHECK (credits_posted + credits_pending - debits_posted <= ceiling_minor),
    -- A limit needs one row: no shard of a shared account can see the others.
    CHECK (shard = 0 OR (floor_minor IS NULL AND ceiling_minor IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- A hold is the one pending transfer of the journal with the same id.
CREATE TABLE ledger_hold (
    id           UUID PRIMARY KEY,
    transfer_no  BIGINT NOT NULL UNIQUE,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    expires_at   TIMESTAMPTZ NOT NULL,
    state        VARCHAR(32) NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'posted', 'voided', 'expired')),
    resolved_by  UUID UNIQUE,
    CHECK ((state = 'open') = (resolved_by IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX ledger_hold_lapse ON ledger_hold (expires_at, id) WHERE state = 'open';

-- Totals at the end of a day, of the accounts that moved since the day before; written once no transaction of that
-- day can still be open.
CREATE TABLE ledger_day (
    account_no     BIGINT NOT NULL,
    day_on         DATE NOT NULL,
    debits_posted  BIGINT NOT NULL CHECK (debits_posted >= 0),
    credits_posted BIGINT NOT NULL CHECK (credits_posted >= 0),
    PRIMARY KEY (account_no, day_on)
);
CREATE INDEX ledger_day_on ON ledger_day (day_on);

CREATE TABLE ledger_seal (
    journal_id UUID PRIMARY KEY,
    chain      SMALLINT NOT NULL,
    seq        BIGINT NOT NULL CHECK (seq > 0),
    prev_hash  BYTEA NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash       BYTEA NOT NULL CHECK (octet_length(hash) = 32),
    CONSTRAINT ledger_seal_seq UNIQUE (chain, seq)
);

-- Books are written once; the owner of the tables is stopped too. A correction is a new journal.
CREATE TRIGGER ledger_journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_journal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_seal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_seal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_day_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_day
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Partitions inherit row triggers only; ensure_partitions gives each of them the TRUNCATE trigger of this name.
CREATE TRIGGER ledger_transfer_append_only BEFORE UPDATE OR DELETE ON ledger_transfer
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_transfer_no_truncate BEFORE TRUNCATE ON ledger_transfer
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- State moves, but never backwards and never disappears.
CREATE TRIGGER ledger_account_kept BEFORE DELETE OR TRUNCATE ON ledger_account
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_account_fixed BEFORE UPDATE ON ledger_account FOR EACH ROW
    WHEN ((NEW.no, NEW.purpose, NEW.owner_kind, NEW.sub, NEW.ccy, NEW.normal)
          IS DISTINCT FROM (OLD.no, OLD.purpose, OLD.owner_kind, OLD.sub, OLD.ccy, OLD.normal)
          OR NEW.owner_id IS DISTINCT FROM OLD.owner_id OR NEW.shards < OLD.shards OR OLD.closed_at IS NOT NULL)
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_balance_kept BEFORE DELETE OR TRUNCATE ON ledger_balance
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_balance_step BEFORE UPDATE ON ledger_balance FOR EACH ROW
    WHEN (NEW.version <> OLD.version + 1 OR NEW.account_no <> OLD.account_no OR NEW.shard <> OLD.shard
          OR NEW.debits_posted < OLD.debits_posted OR NEW.credits_posted < OLD.credits_posted)
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_hold_kept BEFORE DELETE OR TRUNCATE ON ledger_hold
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_hold_once BEFORE UPDATE ON ledger_hold FOR EACH ROW
    WHEN (OLD.state <> 'open' OR NEW.id <> OLD.id OR NEW.transfer_no <> OLD.transfer_no
          OR NEW.amount_minor <> OLD.amount_minor OR NEW.expires_at <> OLD.expires_at)
    EXECUTE FUNCTION refuse_change();

SELECT ensure_partitions('ledger_transfer', current_date, 4);
