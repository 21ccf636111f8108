-- The application works as a role that owns nothing (domain/core/rights.py): what it needs the owner for is done by a
-- function of the owner, and facts are safe from TRUNCATE too, whoever asks.

-- As before, with the rights of the owner: hence a fixed search path, known parents only, and a bound.
CREATE OR REPLACE FUNCTION ensure_partitions(parent TEXT, from_on DATE, months INTEGER) RETURNS INTEGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE made INTEGER := 0; lower_on DATE; name TEXT;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class WHERE relname = parent AND relkind = 'p'
                   AND relnamespace = 'public'::regnamespace) OR months NOT BETWEEN 0 AND 120 THEN
        RAISE EXCEPTION '% has no partitions, or % months are too many', parent, months
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR i IN 0 .. months - 1 LOOP
        lower_on := (date_trunc('month', from_on) + make_interval(months => i))::date;
        name := format('%s_%s', parent, to_char(lower_on, 'YYYYMM'));
        IF to_regclass(format('public.%I', name)) IS NULL THEN
            EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                name, parent, lower_on, (lower_on + interval '1 month')::date);
            -- Row triggers are inherited, a TRUNCATE trigger is not.
            IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = format('public.%I', parent)::regclass
                       AND tgname = parent || '_no_truncate') THEN
                EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON public.%I'
                    ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name || '_no_truncate', name);
            END IF;
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;

-- Row triggers stop UPDATE and DELETE since the tables exist; TRUNCATE has its own. reserve_plan had neither.
DO $$
DECLARE name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['event_log', 'audit_log', 'fx_rate', 'inbox_event', 'risk_rule', 'risk_ruleset',
                                'risk_decision', 'reserve_plan'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT'
            ' EXECUTE FUNCTION refuse_change()', name || '_no_truncate', name);
    END LOOP;
    FOR name IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'event_log'::regclass LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT'
            ' EXECUTE FUNCTION refuse_change()', name || '_no_truncate', name);
    END LOOP;
END $$;
CREATE TRIGGER reserve_plan_append_only BEFORE UPDATE OR DELETE ON reserve_plan
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
