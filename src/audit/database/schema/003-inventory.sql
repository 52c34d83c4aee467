-- Questions of what expires name many users, in their lines.

CREATE INDEX ON audit.record (time) WHERE kind = 'inventory';
