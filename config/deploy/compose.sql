-- Behind compose.yaml: the user of both gateways, before `audit database prepare` gives its role something to do.

CREATE ROLE audit_shipper NOLOGIN;
CREATE ROLE gateway_audit LOGIN PASSWORD 'only-for-trying-things-out' IN ROLE audit_shipper;
