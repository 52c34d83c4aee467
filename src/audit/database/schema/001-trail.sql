-- The central audit trail of atlas-cert-gateway. Whoever runs this owns it.
--
-- A chain is the trail of one audit directory. Its records arrive in their order, each transaction with the new
-- end of the chain. `record` is for searching, `batch` holds the lines as they were written and proves them.

CREATE SCHEMA audit;

CREATE TABLE audit.version (
    version integer PRIMARY KEY,
    applied timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit.chain (
    id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     uuid NOT NULL UNIQUE,                      -- `chain` of its records
    replica  text NOT NULL,                             -- who writes it at present
    seq      bigint NOT NULL DEFAULT 0 CHECK (seq >= 0),
    hash     bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (length(hash) = 32),
    recorded timestamptz,                               -- when its last record was written
    shipped  timestamptz NOT NULL DEFAULT now()
);

-- What is searched for. Texts are as in the record, but for NUL, which is U+FFFD here.
CREATE TABLE audit.record (
    time           timestamptz NOT NULL,
    seq            bigint NOT NULL,
    request_id     uuid,
    fill_id        uuid,
    chain          integer NOT NULL,
    certificates   integer,
    upstream_calls integer,
    age_ms         bigint,
    duration_us    bigint,
    status         smallint,
    kind           text NOT NULL,
    outcome        text,
    error_code     text,
    subject        text,
    issuer         text,
    client_id      text,
    token_id       text,
    rule           text,
    peer           text,
    group_id       text,
    username       text,
    cache          text,
    line           text,                                -- the whole of it, unless it is of a lookup
    PRIMARY KEY (chain, seq, time)
) PARTITION BY RANGE (time);

CREATE INDEX ON audit.record (time);
CREATE INDEX ON audit.record (username, time);
CREATE INDEX ON audit.record (subject, time);
CREATE INDEX ON audit.record (request_id);
CREATE INDEX ON audit.record (fill_id);
CREATE INDEX ON audit.record (time) WHERE outcome <> 'answered';
CREATE INDEX ON audit.record (chain, seq) WHERE kind <> 'lookup';

-- The lines as they were written, packed with zstd. A batch is of one day.
CREATE TABLE audit.batch (
    first bigint NOT NULL,
    last  bigint NOT NULL CHECK (last >= first),
    chain integer NOT NULL,
    day   date NOT NULL,
    bytes integer NOT NULL CHECK (bytes > 0),           -- how many there are, unpacked
    hash  bytea NOT NULL CHECK (length(hash) = 32),     -- of its last record
    lines bytea NOT NULL,
    PRIMARY KEY (chain, first, day)
) PARTITION BY RANGE (day);

ALTER TABLE audit.batch ALTER COLUMN lines SET STORAGE EXTERNAL;

-- The signed heads of each chain, as they were written.
CREATE TABLE audit.head (
    chain integer NOT NULL REFERENCES audit.chain,
    seq   bigint NOT NULL,
    time  timestamptz NOT NULL,
    line  text NOT NULL,
    PRIMARY KEY (chain, seq, time)
);

-- Records that are not here, and why: `dropped` by retention here, `removed` from the directory before they were
-- shipped, which its trail says itself, or `missing`.
CREATE TABLE audit.gap (
    chain  integer NOT NULL REFERENCES audit.chain,
    first  bigint NOT NULL,
    last   bigint NOT NULL CHECK (last >= first),
    hash   bytea NOT NULL CHECK (length(hash) = 32),    -- of the last of them
    reason text NOT NULL CHECK (reason IN ('dropped', 'removed', 'missing')),
    noted  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (chain, first)
);

-- The ends of all chains, signed once an hour, each with the hash of the one before.
CREATE TABLE audit.checkpoint (
    id   bigint PRIMARY KEY,
    time timestamptz NOT NULL,
    line text NOT NULL
);

-- The partitions of a day. They are attached, which does not wait for those who read.
CREATE FUNCTION audit.prepare_day(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    suffix CONSTANT text := to_char(day, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('atlas-cert-gateway audit day'));
    IF to_regclass('audit.batch_' || suffix) IS NULL THEN
        EXECUTE format('CREATE TABLE audit.%I (LIKE audit.record INCLUDING ALL)', 'record_' || suffix);
        EXECUTE format('ALTER TABLE audit.record ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)',
                       'record_' || suffix, day::timestamptz, (day + 1)::timestamptz);
        EXECUTE format('CREATE TABLE audit.%I (LIKE audit.batch INCLUDING ALL)', 'batch_' || suffix);
        EXECUTE format('ALTER TABLE audit.batch ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)',
                       'batch_' || suffix, day, day + 1);
    END IF;
END
$$;

-- Retention: drops all days before this one, and notes what went. Says how many days went.
CREATE FUNCTION audit.drop_days_before(before date) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    suffix text;
    days integer := 0;
BEGIN
    FOR suffix IN
        SELECT substr(relname, 7) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'audit.batch'::regclass AND relname < 'batch_' || to_char(before, 'YYYYMMDD')
        ORDER BY relname
    LOOP
        EXECUTE format(
            'INSERT INTO audit.gap (chain, first, last, hash, reason)
             SELECT chain, min(first), max(last), (array_agg(hash ORDER BY first DESC))[1], ''dropped''
             FROM (SELECT *, sum(begins) OVER (PARTITION BY chain ORDER BY first) AS part
                   FROM (SELECT *, CASE WHEN first = lag(last) OVER (PARTITION BY chain ORDER BY first) + 1
                                        THEN 0 ELSE 1 END AS begins FROM audit.%I) AS batches) AS parts
             GROUP BY chain, part', 'batch_' || suffix);
        EXECUTE format('DROP TABLE audit.%I, audit.%I', 'batch_' || suffix, 'record_' || suffix);
        days := days + 1;
    END LOOP;
    DELETE FROM audit.head USING audit.gap
    WHERE gap.reason = 'dropped' AND head.chain = gap.chain AND head.seq BETWEEN gap.first AND gap.last;
    RETURN days;
END
$$;

DO $$
BEGIN
    -- Roles belong to the whole server, so that another database may have made them.
    IF to_regrole('audit_shipper') IS NULL THEN
        CREATE ROLE audit_shipper NOLOGIN;
    END IF;
    IF to_regrole('audit_auditor') IS NULL THEN
        CREATE ROLE audit_auditor NOLOGIN;
    END IF;
END
$$;

REVOKE ALL ON FUNCTION audit.prepare_day(date), audit.drop_days_before(date) FROM PUBLIC;
GRANT USAGE ON SCHEMA audit TO audit_shipper, audit_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA audit TO audit_shipper, audit_auditor;
-- A replica adds, and moves the end of a chain. It can change or remove nothing of what is there.
GRANT INSERT ON audit.record, audit.batch, audit.head, audit.gap, audit.checkpoint TO audit_shipper;
GRANT INSERT (name, replica), UPDATE (replica, seq, hash, recorded, shipped) ON audit.chain TO audit_shipper;
GRANT EXECUTE ON FUNCTION audit.prepare_day(date) TO audit_shipper;
