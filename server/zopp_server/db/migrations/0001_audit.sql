-- Schema audit: the transparency log. zopp_app reads it and calls two functions; it can write no row by itself, since
-- with INSERT alone it could leave a gap.
CREATE SCHEMA audit AUTHORIZATION zopp_audit_owner;
SET LOCAL ROLE zopp_audit_owner;

-- The head of one log. log_id is the genesis hash of a workspace, or 'system'.
CREATE TABLE audit.log (
  log_id     text PRIMARY KEY,
  origin     text NOT NULL UNIQUE,
  size       bigint NOT NULL CHECK (size BETWEEN 1 AND 9007199254740991),
  root       bytea NOT NULL CHECK (octet_length(root) = 32),
  frontier   bytea NOT NULL CHECK (octet_length(frontier) = 32 * bit_count(size::bit(64))),
  checkpoint text NOT NULL,
  signed_at  timestamptz NOT NULL
);

-- body is the exact hashed bytes; every other column is a projection of it.
CREATE TABLE audit.entry (
  log_id    text NOT NULL REFERENCES audit.log,
  seq       bigint NOT NULL CHECK (seq >= 0),
  ts        timestamptz NOT NULL,
  action    text NOT NULL,
  outcome   smallint NOT NULL,
  actor     text,
  on_behalf text,
  project   text,
  env       text,
  req_id    uuid NOT NULL,
  leaf      bytea NOT NULL CHECK (octet_length(leaf) = 32),
  body      bytea NOT NULL CHECK (octet_length(body) BETWEEN 1 AND 65535),
  PRIMARY KEY (log_id, seq)
);
CREATE INDEX entry_actor ON audit.entry (log_id, actor, seq DESC);
CREATE INDEX entry_env ON audit.entry (log_id, project, env, seq DESC);
CREATE INDEX entry_action ON audit.entry (log_id, action, seq DESC);
CREATE INDEX entry_ts ON audit.entry USING brin (ts);

-- Full tiles of 256 hashes; partial ones are computed.
CREATE TABLE audit.tile (
  log_id text NOT NULL REFERENCES audit.log,
  level  smallint NOT NULL CHECK (level BETWEEN 0 AND 6),
  n      bigint NOT NULL CHECK (n >= 0),
  data   bytea NOT NULL CHECK (octet_length(data) = 8192),
  PRIMARY KEY (log_id, level, n)
);

CREATE FUNCTION audit.refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'audit.% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'ZP001';
END
$$;

CREATE FUNCTION audit.head_grows() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NEW.log_id <> OLD.log_id OR NEW.origin <> OLD.origin OR NEW.size <= OLD.size THEN
    RAISE EXCEPTION 'audit.log: a head only grows' USING ERRCODE = 'ZP001';
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER entry_change BEFORE UPDATE OR DELETE ON audit.entry FOR EACH ROW EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER entry_truncate BEFORE TRUNCATE ON audit.entry FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER tile_change BEFORE UPDATE OR DELETE ON audit.tile FOR EACH ROW EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER tile_truncate BEFORE TRUNCATE ON audit.tile FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER log_update BEFORE UPDATE ON audit.log FOR EACH ROW EXECUTE FUNCTION audit.head_grows();
CREATE TRIGGER log_delete BEFORE DELETE ON audit.log FOR EACH ROW EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER log_truncate BEFORE TRUNCATE ON audit.log FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();

-- Otherwise session_replication_role = replica skips them.
ALTER TABLE audit.entry ENABLE ALWAYS TRIGGER entry_change;
ALTER TABLE audit.entry ENABLE ALWAYS TRIGGER entry_truncate;
ALTER TABLE audit.tile ENABLE ALWAYS TRIGGER tile_change;
ALTER TABLE audit.tile ENABLE ALWAYS TRIGGER tile_truncate;
ALTER TABLE audit.log ENABLE ALWAYS TRIGGER log_update;
ALTER TABLE audit.log ENABLE ALWAYS TRIGGER log_delete;
ALTER TABLE audit.log ENABLE ALWAYS TRIGGER log_truncate;

-- SELECT … FOR UPDATE needs the UPDATE privilege, which zopp_app must not have. In one order, so that two batches
-- cannot wait for each other; a log without a row is an empty one.
CREATE FUNCTION audit.lock_heads(log_ids text[]) RETURNS SETOF audit.log
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT * FROM audit.log WHERE log_id = ANY (log_ids) ORDER BY log_id COLLATE "C" FOR UPDATE
$$;

-- Appends a batch to one log whose head is still at `old_size`, and writes the new head and each tile that the batch
-- filled. seq and leaf are made here. Root, frontier and upper tiles are taken as given: a lie in them fails
-- verification. Gives the first seq of the batch.
CREATE FUNCTION audit.append(
  the_log text, its_origin text, old_size bigint,
  ts timestamptz[], action text[], outcome smallint[], actor text[], on_behalf text[], project text[], env text[],
  req_id uuid[], body bytea[],
  new_root bytea, new_frontier bytea, new_checkpoint text, new_signed_at timestamptz,
  tile_level smallint[], tile_n bigint[], tile_data bytea[]
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  count    integer := cardinality(body);
  new_size bigint;
  head     audit.log;
  filled   bigint := 0;
BEGIN
  IF count IS NULL OR count NOT BETWEEN 1 AND 4096 OR array_position(body, NULL) IS NOT NULL
     OR (cardinality(ts), cardinality(action), cardinality(outcome), cardinality(actor), cardinality(on_behalf),
         cardinality(project), cardinality(env), cardinality(req_id))
        IS DISTINCT FROM (count, count, count, count, count, count, count, count) THEN
    RAISE EXCEPTION 'a batch has 1 to 4096 entries, each with every column' USING ERRCODE = 'ZP002';
  END IF;
  new_size := old_size + count;

  SELECT * INTO head FROM audit.log WHERE log_id = the_log FOR UPDATE;
  IF FOUND THEN
    IF head.size IS DISTINCT FROM old_size OR head.origin IS DISTINCT FROM its_origin THEN
      RAISE EXCEPTION 'the head has moved' USING ERRCODE = 'ZP003';
    END IF;
    UPDATE audit.log SET size = new_size, root = new_root, frontier = new_frontier, checkpoint = new_checkpoint,
      signed_at = new_signed_at WHERE log_id = the_log;
  ELSIF old_size = 0 THEN
    INSERT INTO audit.log VALUES (the_log, its_origin, new_size, new_root, new_frontier, new_checkpoint, new_signed_at);
  ELSE
    RAISE EXCEPTION 'there is no such log' USING ERRCODE = 'ZP003';
  END IF;

  INSERT INTO audit.entry
  SELECT the_log, old_size + e.ord - 1, e.ts, e.action, e.outcome, e.actor, e.on_behalf, e.project, e.env, e.req_id,
         sha256('\x00'::bytea || e.body), e.body
  FROM unnest(ts, action, outcome, actor, on_behalf, project, env, req_id, body) WITH ORDINALITY
    AS e (ts, action, outcome, actor, on_behalf, project, env, req_id, body, ord);

  -- Exactly the tiles that this batch filled, in level 0 with the leaves just written.
  FOR level IN 0..6 LOOP
    filled := filled + (new_size >> (8 * (level + 1))) - (old_size >> (8 * (level + 1)));
  END LOOP;
  IF (cardinality(tile_level), cardinality(tile_n), cardinality(tile_data))
     IS DISTINCT FROM (filled::integer, filled::integer, filled::integer) THEN
    RAISE EXCEPTION 'this batch fills % tiles', filled USING ERRCODE = 'ZP002';
  END IF;
  IF filled > 0 THEN
    INSERT INTO audit.tile SELECT the_log, t.* FROM unnest(tile_level, tile_n, tile_data) AS t;
    IF EXISTS (
      SELECT FROM unnest(tile_level, tile_n, tile_data) AS t (level, n, data)
      WHERE t.n < (old_size >> (8 * (t.level + 1))) OR t.n >= (new_size >> (8 * (t.level + 1)))
         OR t.level = 0 AND t.data IS DISTINCT FROM (
              SELECT string_agg(e.leaf, ''::bytea ORDER BY e.seq) FROM audit.entry e
              WHERE e.log_id = the_log AND e.seq BETWEEN 256 * t.n AND 256 * t.n + 255)
    ) THEN
      RAISE EXCEPTION 'a tile is not one that this batch fills' USING ERRCODE = 'ZP002';
    END IF;
  END IF;
  RETURN old_size;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA audit FROM PUBLIC;
GRANT USAGE ON SCHEMA audit TO zopp_app, zopp_read;
GRANT SELECT ON ALL TABLES IN SCHEMA audit TO zopp_app, zopp_read;
GRANT EXECUTE ON FUNCTION audit.lock_heads, audit.append TO zopp_app;
RESET ROLE;
