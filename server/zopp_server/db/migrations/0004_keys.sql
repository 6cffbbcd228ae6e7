-- Schema keys: the server's keys of brokered environments, encrypted outside the database. No row is
-- deleted: `wrapped` is null of a key that was destroyed on purpose. Which key is in force says the policy.
CREATE SCHEMA keys;

-- One data encryption key a workspace, wrapped by the key encryption key; `canary` is a text known beforehand under it.
CREATE TABLE keys.dek (
  ws      text PRIMARY KEY,
  kek_id  text NOT NULL,
  wrapped bytea NOT NULL,
  canary  bytea NOT NULL
);

CREATE TABLE keys.server_key (
  ws         text NOT NULL,
  project    text NOT NULL,
  env        text NOT NULL,
  generation integer NOT NULL CHECK (generation >= 1),
  recipient  text NOT NULL UNIQUE,
  wrapped    bytea,
  PRIMARY KEY (ws, project, env, generation)
);

GRANT USAGE ON SCHEMA keys TO zopp_app;
GRANT SELECT, INSERT, UPDATE ON keys.server_key, keys.dek TO zopp_app;
