-- Schema rt: replay and idempotency are no evidence, so they lie outside schema audit. LOGGED, all of it: an UNLOGGED
-- table is emptied by a crash, which would open the replay window again.
CREATE SCHEMA rt;

-- bucket = (created / 300) mod 8, of the signed time; one is emptied only when all that it can hold is stale.
CREATE TABLE rt.replay (
  bucket smallint NOT NULL CHECK (bucket BETWEEN 0 AND 7),
  ws     text NOT NULL,
  keyid  text NOT NULL,
  nonce  bytea NOT NULL CHECK (octet_length(nonce) = 16),
  PRIMARY KEY (bucket, ws, keyid, nonce)
) PARTITION BY LIST (bucket);
CREATE TABLE rt.replay_0 PARTITION OF rt.replay FOR VALUES IN (0);
CREATE TABLE rt.replay_1 PARTITION OF rt.replay FOR VALUES IN (1);
CREATE TABLE rt.replay_2 PARTITION OF rt.replay FOR VALUES IN (2);
CREATE TABLE rt.replay_3 PARTITION OF rt.replay FOR VALUES IN (3);
CREATE TABLE rt.replay_4 PARTITION OF rt.replay FOR VALUES IN (4);
CREATE TABLE rt.replay_5 PARTITION OF rt.replay FOR VALUES IN (5);
CREATE TABLE rt.replay_6 PARTITION OF rt.replay FOR VALUES IN (6);
CREATE TABLE rt.replay_7 PARTITION OF rt.replay FOR VALUES IN (7);

-- When buckets were last emptied: nothing is recorded at an earlier time, whose nonces may be gone.
CREATE TABLE rt.swept (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  at  timestamptz NOT NULL
);

CREATE TABLE rt.idempotency (
  ws         text NOT NULL,
  principal  text NOT NULL,
  key        text NOT NULL,
  req_digest bytea NOT NULL CHECK (octet_length(req_digest) = 32),
  first_seq  bigint NOT NULL,
  expires    timestamptz NOT NULL,
  PRIMARY KEY (ws, principal, key)
);

-- The readable address, erasable: the entry itself holds an HMAC of it.
CREATE TABLE rt.client_addr (
  log_id text NOT NULL,
  seq    bigint NOT NULL,
  addr   inet NOT NULL,
  PRIMARY KEY (log_id, seq)
);

-- The key under which an entry shows whom an address belongs to; dropping it and the rows above erases the address.
CREATE TABLE rt.addr_key (
  ws    text NOT NULL,
  actor text NOT NULL,
  key   bytea NOT NULL CHECK (octet_length(key) = 32),
  PRIMARY KEY (ws, actor)
);

-- The one-time codes that let upload a genesis: of the code, only its hash is here.
CREATE TABLE rt.bootstrap (
  code_sha256 bytea PRIMARY KEY CHECK (octet_length(code_sha256) = 32),
  expires     timestamptz NOT NULL
);

-- A code is used by inserting it here, which works once.
CREATE TABLE rt.bootstrap_use (
  code_sha256 bytea PRIMARY KEY REFERENCES rt.bootstrap,
  ws          text NOT NULL
);

-- Short-lived and attested by the server.
CREATE TABLE rt.ci_principal (
  ws           text NOT NULL,
  id           text NOT NULL,
  service      text NOT NULL,
  rule         text NOT NULL,
  since        bigint NOT NULL,
  keyid        text NOT NULL,
  ed25519      bytea NOT NULL CHECK (octet_length(ed25519) = 32),
  not_after    timestamptz NOT NULL,
  token_sha256 bytea NOT NULL CHECK (octet_length(token_sha256) = 32),
  PRIMARY KEY (ws, id),
  UNIQUE (ws, keyid)
);

-- A hint to clients.
CREATE TABLE rt.manifest_head (
  ws         text NOT NULL,
  project    text NOT NULL,
  env        text NOT NULL,
  generation bigint NOT NULL CHECK (generation >= 0),
  hash       bytea NOT NULL CHECK (octet_length(hash) = 32),
  entry_seq  bigint NOT NULL,
  PRIMARY KEY (ws, project, env)
);

GRANT USAGE ON SCHEMA rt TO zopp_app;
GRANT SELECT, INSERT ON rt.replay TO zopp_app;
GRANT TRUNCATE ON rt.replay_0, rt.replay_1, rt.replay_2, rt.replay_3, rt.replay_4, rt.replay_5, rt.replay_6, rt.replay_7
  TO zopp_app;
GRANT SELECT, INSERT, DELETE ON rt.idempotency, rt.client_addr, rt.ci_principal TO zopp_app;
GRANT SELECT, INSERT, DELETE ON rt.addr_key TO zopp_app;
GRANT SELECT, INSERT, UPDATE ON rt.manifest_head, rt.swept TO zopp_app;
GRANT SELECT, INSERT ON rt.bootstrap, rt.bootstrap_use TO zopp_app;
