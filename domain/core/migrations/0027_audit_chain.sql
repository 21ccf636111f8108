-- The audit log says from where, and is chained: each row's hash holds the hash of the one before it.

-- (txid, no) is the commit-safe order in which one sealer chains the rows (as in ledger_seal).
ALTER TABLE audit_log
    ADD COLUMN txid XID8 NOT NULL DEFAULT pg_current_xact_id(),
    ADD COLUMN address VARCHAR(45);
CREATE INDEX audit_log_position ON audit_log (txid, no);
CREATE INDEX audit_log_merchant ON audit_log (merchant_id, no) WHERE merchant_id IS NOT NULL;

-- No reference to the row: who removes one must not be helped to remove its seal. Writer: core/audit_chain.py.
CREATE TABLE audit_seal (
    seq       BIGINT PRIMARY KEY CHECK (seq > 0),
    audit_no  BIGINT NOT NULL UNIQUE,
    prev_hash BYTEA NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash      BYTEA NOT NULL CHECK (octet_length(hash) = 32)
);
CREATE TRIGGER audit_seal_append_only BEFORE UPDATE OR DELETE ON audit_seal
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_seal_no_truncate BEFORE TRUNCATE ON audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
