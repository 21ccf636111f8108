-- Where a refund that people sent can be seen: one line of a statement is one refund. Writer: payments/manual.py.
CREATE TABLE refund_evidence (
    evidence    VARCHAR(120) PRIMARY KEY,
    order_id    UUID NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER refund_evidence_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON refund_evidence
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
