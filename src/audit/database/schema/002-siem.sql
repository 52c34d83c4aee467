-- For tools that collect security events: the lookups in two usual shapes.

-- OCSF 1.3.0, class API Activity (6003).
CREATE VIEW audit.audit_ocsf AS
SELECT record.time, record.chain, record.seq, jsonb_strip_nulls(jsonb_build_object(
    'class_uid', 6003, 'class_name', 'API Activity',
    'category_uid', 6, 'category_name', 'Application Activity',
    'activity_id', 2, 'activity_name', 'Read', 'type_uid', 600302,
    'time', (extract(epoch FROM record.time) * 1000)::bigint,
    'severity_id', CASE WHEN record.outcome IN ('denied', 'unauthenticated') THEN 3 ELSE 1 END,
    'severity', CASE WHEN record.outcome IN ('denied', 'unauthenticated') THEN 'Medium' ELSE 'Informational' END,
    'status_id', CASE record.outcome WHEN 'answered' THEN 1 WHEN 'abandoned' THEN 0 ELSE 2 END,
    'status', CASE record.outcome WHEN 'answered' THEN 'Success' WHEN 'abandoned' THEN 'Unknown' ELSE 'Failure' END,
    'status_code', record.status::text, 'status_detail', record.error_code,
    'duration', record.duration_us / 1000,
    -- No object of a person or a thing is there without its name or id.
    'actor', jsonb_build_object(
        'user', CASE WHEN record.subject IS NOT NULL THEN jsonb_build_object('uid', record.subject) END,
        'idp', CASE WHEN record.issuer IS NOT NULL THEN jsonb_build_object('uid', record.issuer) END,
        'app_uid', record.client_id,
        'session', jsonb_build_object('uid', record.token_id, 'issuer', record.issuer, 'is_remote', true)),
    'api', jsonb_build_object('operation', 'listDatabaseUserCertificates',
                              'service', jsonb_build_object('name', 'atlas-cert-gateway'),
                              'request', jsonb_build_object('uid', record.request_id),
                              'response', jsonb_build_object('code', record.status, 'error', record.error_code)),
    'resources', nullif(to_jsonb(array_remove(ARRAY[
        CASE WHEN record.group_id IS NOT NULL
             THEN jsonb_build_object('type', 'project', 'uid', record.group_id) END,
        CASE WHEN record.username IS NOT NULL
             THEN jsonb_build_object('type', 'database user', 'name', record.username) END], NULL)), '[]'),
    'src_endpoint', jsonb_build_object('ip', coalesce(parts[1], parts[2], record.peer), 'port', parts[3]::integer),
    'metadata', jsonb_build_object('uid', record.request_id, 'sequence', record.seq, 'version', '1.3.0',
                                   'product', jsonb_build_object('name', 'atlas-cert-gateway',
                                                                 'vendor_name', 'atlas-cert-gateway')),
    'unmapped', jsonb_build_object('chain', chain.name, 'replica', chain.replica, 'rule', record.rule,
                                   'cache', record.cache, 'fill_id', record.fill_id,
                                   'certificates', record.certificates))) AS event
FROM audit.record JOIN audit.chain ON chain.id = record.chain
-- An address has no port where a proxy did not say it.
CROSS JOIN LATERAL regexp_match(record.peer, '^(?:\[(.+)\]|([0-9.]+)):([0-9]+)$') AS parts
WHERE record.kind = 'lookup';

-- Elastic Common Schema 8.11.0.
CREATE VIEW audit.audit_ecs AS
SELECT record.time, record.chain, record.seq, jsonb_strip_nulls(jsonb_build_object(
    '@timestamp', to_char(record.time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'ecs', jsonb_build_object('version', '8.11.0'),
    'event', jsonb_build_object(
        'kind', 'event', 'category', jsonb_build_array('iam'), 'type', jsonb_build_array('info'),
        'action', 'certificates-listed', 'provider', 'atlas-cert-gateway', 'id', record.request_id,
        'sequence', record.seq, 'duration', record.duration_us * 1000,
        'outcome', CASE record.outcome WHEN 'answered' THEN 'success' WHEN 'abandoned' THEN 'unknown'
                                       ELSE 'failure' END),
    'error', jsonb_build_object('code', record.error_code),
    'user', jsonb_build_object('id', record.subject,
                               'target', jsonb_build_object('name', record.username, 'domain', record.group_id)),
    'rule', jsonb_build_object('name', record.rule),
    'source', jsonb_build_object('address', record.peer, 'ip', coalesce(parts[1], parts[2], record.peer),
                                 'port', parts[3]::integer),
    'http', jsonb_build_object('response', jsonb_build_object('status_code', record.status)),
    'observer', jsonb_build_object('name', chain.replica, 'product', 'atlas-cert-gateway'),
    'labels', jsonb_build_object('chain', chain.name, 'issuer', record.issuer, 'client_id', record.client_id,
                                 'token_id', record.token_id, 'cache', record.cache,
                                 'fill_id', record.fill_id))) AS event
FROM audit.record JOIN audit.chain ON chain.id = record.chain
CROSS JOIN LATERAL regexp_match(record.peer, '^(?:\[(.+)\]|([0-9.]+)):([0-9]+)$') AS parts
WHERE record.kind = 'lookup';

GRANT SELECT ON audit.audit_ocsf, audit.audit_ecs TO audit_shipper, audit_auditor;
