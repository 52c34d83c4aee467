-- Less room: texts are indexed by their hashes. From now on answered fetches have their lines in the batches
-- alone, and what was not answered has its own; days that are there stay as they are.

DROP INDEX audit.record_username_time_idx, audit.record_subject_time_idx;
CREATE INDEX ON audit.record (hashtext(username), time);
CREATE INDEX ON audit.record (hashtext(subject), time);

COMMENT ON COLUMN audit.record.line IS 'The whole of it, unless it is of a lookup or a fetch that was answered';
